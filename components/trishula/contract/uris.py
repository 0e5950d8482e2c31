"""The wire contract: every WAMP URI of TRISHULA 2, who may use it, with what, and whether a repeat is safe.

Realm :data:`REALM`; WebSocket path ``/ws`` (subprotocols ``wamp.2.msgpack``, ``wamp.2.json``, ``wamp.2.cbor``); default
port 8765; authentication ``ticket`` with ``authid`` = the agent's name and the ticket = its token, or ``cryptosign``
with ``authextra.pubkey`` = the agent's public key (:mod:`trishula.contract.key_challenge`). Any WAMP client in any
language can take part. Arguments are positional; maps are by name and an unknown key is refused; times on the wire are
integer milliseconds since the epoch (``…_at``), spans are seconds (``…_s``). Where an integer is asked for, a whole
number may come as a float (``60000.0``), as Go, Lua and JavaScript send it.

A payload is any JSON value, whatever the serializer: maps with string keys, lists, strings that don't begin with
U+0000, integers within ±(2^53-1), finite numbers, true, false and null, nested at most 100 deep; and bytes, at most
4,096 values of them. Bytes are bytes in MessagePack and CBOR, and in JSON, as WAMP has it, a string of U+0000 and their
Base64 (``"\\u0000AAEC"``). A node keeps, digests, searches and shows that string, and hands it out in every serializer,
unless a session says by ``binary`` in ``attach`` or ``fetch`` that it takes bytes as they are; a signature and a box
hold the string, too. A node of the release before refuses bytes. Everything else is refused with
``trishula.error.payload_not_json`` and the place in it; a larger integer is to be sent as a string, because JavaScript
and others would read another number. Some things a node doesn't even read; it closes the WebSocket, with code 1002 and
the reason: keys of maps other than strings (and bytes), tags of CBOR, larger integers in CBOR with them, extension
types of MessagePack, integers of more than 640 digits, and more values in one frame than half the bytes of
``limits.payload`` and 64 for each message of ``limits.batch_messages`` (589,824), each list and map counting as one. Of
these a quarter (147,456) may be keys, lists and maps, because those take longest to be read; a frame of CBOR with a map
of indefinite length holds half as many values.
A frame holds one message; ``….batched`` subprotocols are not spoken. Before a session has joined, a message is one of
HELLO, AUTHENTICATE and ABORT, and has at most 16 KiB (else code 1009); afterwards as much as ``attach`` tells.

``subject``, ``traceparent``, and the ``state`` and ``progress`` of a beat are one line without control characters
(U+0000 to U+001F, U+007F to U+009F, U+2028, U+2029): others would forge what stands around them, wherever a person or a
model reads them. In the ``reason`` of a ``nack`` the node writes such characters as their escapes.

A node that very many join at the same time takes some of them later: it answers AUTHENTICATE with ABORT
``trishula.error.node_busy``, and the ABORT's ``message`` ends "try again in N s". It may be tried again at once, and is
more likely to succeed then, or a little after it.

After wrong tokens, or keys, a node looks for some time at none that comes under the same name from the same address: it
answers with ABORT ``trishula.error.rate_limited``, and the ``message`` ends "try again in N s" too (20 at most). A
connection has one try: behind an ABORT nothing is read, and it is closed.

A WebSocket library answers pings by itself, and must: a node pings a client that has said nothing for 2.5 s and ends
the connection after 2 s more without a byte; behind each stretch of a large message it sends a ping (12 bytes), and
the next stretch when that is answered. A large message comes in fragments. A client that wants to notice a dead node
pings it in turn, best when it has heard nothing for 1.5 s. Who is connected has 5 s for each step of joining
(``limits.handshake``), and is ended early where very many come from its address and don't join
(``limits.strangers_per_address``): it may come again at once. Of a client for which more than
``limits.connection_queue`` (16 MiB) waits the connection is ended, with code 1008 and a reason; a quarter of that is
what is delivered without an ack, but for one message more.

What a session has open is bounded too, and what goes beyond is refused with an ERROR to that request:
``…subscriptions_exceeded`` (``limits.subscriptions``), ``…registrations_exceeded``, ``…calls_exceeded`` (calls that
nobody has answered, of the caller or owed by the callee; one that waits for longer than ``limits.call_wait`` (1 h) ends
with ``…outcome_unknown``), ``…fetches_exceeded``, ``…instances_exceeded``, and
``…retained_exceeded`` for a PUBLISH with ``retain``. A name has at most 512 characters.

Mailbox (caller: any agent; each acts only for its own mailboxes):

``mailbox.send([message…], {copies?, sent_at?, signatures?})`` → ``[receipt…]``
    In order; a refused message does not refuse its neighbours. receipt = ``{id, status: "accepted" | "duplicate" |
    "refused", node, seq, copies, error?, detail?, retry_after_s?, missed?, warning?}``. It is answered when the
    messages are on disk.
    May be repeated: yes. Ids belong to agents: (the agent of ``from``, ``id``) is the key, whichever instance sends. A
    repeat that is equal in ``type``, ``to``, ``procedure`` and ``payload`` is a ``duplicate``, with the first one's
    ``node`` and ``seq``; anything else under that id is refused as ``trishula.error.id_reused``, for good. A node knows
    an id as long as its message can be delivered, and for ``retention.ids`` (30 d) from its acceptance on.
    ``missed``, of a ``broadcast``: ``[{to, error?, detail}…]``, who does not get it, because of a full mailbox; it is
    refused only if nobody would get it. ``warning``, a sentence: the message was accepted and is likely to wait,
    because nobody who is present announced the capability that it is to.
    ``copies``: 1 doesn't wait for a second node, 2 is refused for now where there is none; without it the node waits
    for the second copy where it can be had, a second at most. In the receipt: on how many nodes it is by then.
    ``sent_at``: what the sender's clock says at this call. A message's ``deadline_at`` is by the sender's clock, and
    the node puts it into its own, by ``sent_at``, or else by what the session's beats have shown, or else by the newest
    ``timestamp`` of the call, which can only make it later; a node of the first release refuses ``sent_at``.
    ``signatures``: one for each message, ``null`` for none, as :mod:`trishula.contract.signed` has them. The node looks
    at none: they are kept with the messages, and their recipients get them. A node of the release before refuses it.
    Order: what a session sends to one recipient with one urgency reaches its mailbox in the order of the calls, and
    within a call in that of the list. When the node refuses a message for now (a refusal with ``retry_after_s``), it
    refuses what the session sends to that ``to`` after it too, with the same ``error``, unless it is more urgent or a
    repeat, until the message comes again. So offer it again when ``retry_after_s`` is over, then all that was refused
    behind it, in the old order, and nothing later to that ``to`` before every call under way is answered. Who gives it
    up is refused for 3 s, or for ``retry_after_s`` if that is longer, and goes on then. A ``broadcast`` is a recipient
    of its own here; messages to capabilities are in no order.
    Answers: a RESULT or an ERROR whose ``reply_to`` names a COMMAND of the agent that it is ``to`` is taken from who
    was given that COMMAND (the agent it went to, or the one that it was delivered to if it went to a capability),
    whatever its grants say, and once; any other is refused as ``trishula.error.answer_refused``, for good. That of a
    COMMAND to a capability that its sender serves, and that is open and not known to have been given to it, is refused
    for now, as ``trishula.error.answer_early``: another node may know. If a COMMAND went to two, one after the other,
    the first answer counts. What names no COMMAND that the node knows is mail like any other.
``mailbox.attach({instance?, capabilities?, window?, heartbeat_s?, epoch?, position?, run?, after?, begun?, host?,
canaries?, binary?})`` → ``{node, epoch, high_water, lease_s, limits, epoch_changed?, fallback?}``
    Starts pushing to the inbox topic of the address; subscribe to that first. ``lease_s``: how long a delivery waits
    for its ack. ``window``: how many may wait for their acks; of each 16 places one is left to messages of priority 1,
    so that they need not wait behind a backlog. May be repeated: yes; a newer session of the same address takes over
    and the older one is closed with ``trishula.error.taken_over``. ``capabilities``, of the agent's own session: what
    it announces; if its ``serve`` grants don't name each, nothing is attached
    (``trishula.error.capability_forbidden``, for good).
    ``limits``: ``{payload_bytes, batch_messages, ttl_ms, frame_bytes?, attachment_bytes?}``, the most that a message's
    payload may have as JSON, the most messages in one call, the most that ``ttl_ms`` may be (a longer one is refused),
    and the most bytes that one WebSocket message of this session may have: a larger one ends the session, so keep
    calls, events and the results of your procedures below it. Where ``limits`` is missing (a
    node of an earlier release), keep a payload below 8 MiB, a WebSocket message below 16 MiB and a call within 1024
    messages; the node refuses what is over its own limits.
    What is out when a session is lost goes out again with the next one; what that costs a message depends on what the
    client tells of its process. ``run`` names this run of it: sessions of one run cost nothing, whatever they had.
    ``after`` names the run before, if the client has its records, and ``begun`` lists as ``[from, id]`` what that one
    had begun and not ended: each of these failed once, the others cost nothing. Who tells neither, or starts anew
    without records, may lose a session with a message 20 times (4 for each attempt); then it is dead. ``host``, a line
    for people: where the client runs; whoever is taken over is told it, and it is in the journal. Of processes that
    take a mailbox over from each other, the one that has it after two takeovers within a minute keeps it; the others'
    ``attach`` is refused as ``taken_over``, until nobody has tried for a while. ``canaries``, of the agent's own
    session: the roads by which the client answers canaries (``mailbox.canary``), a list of ``live`` and ``files``;
    true for ``live`` alone. ``binary``: true to get bytes in payloads as bytes, in MessagePack and CBOR too. A node of
    the release before refuses the key.
``mailbox.ack([token…])`` → ``[true | false…]``
    ``true``: the message is done (also when it already was). ``false``: no such message in the caller's mailboxes.
    May be repeated: yes.
``mailbox.nack([{token, reason, requeue}…])`` → ``[true | false…]``
    Gives back: ``requeue`` true for another attempt after a pause, false for the dead letters. May be repeated: yes.
``mailbox.working(token, for_s)`` → ``{lease_until_at}``
    Extends the lease of a long job. May be repeated: yes.
``mailbox.surfaced([token…])`` → ``[true | false…]``
    These messages were put into a model's context: by the model's own tool call that returned them, or by a hook that
    has printed them to it; never because somebody was woken. ``true``: the message was delivered to the caller by that
    token, and that its model has it is on disk (the first time counts). It settles nothing. A session that has called
    this, with an empty list too, is one behind which a model reads: what is delivered to it and is not surfaced within
    ``delivery.surface_within`` of the node, where that is set, is told as unread. May be repeated: yes. (A node of the
    release before doesn't have it, and answers as to any call that is not allowed.)
``mailbox.fetch({max?, wait_s?, instance?, epoch?, position?, run?, binary?})`` → ``{deliveries, epoch, high_water,
pending, in_flight, epoch_changed?}``
    The pull form; ``run`` and ``binary`` as in ``attach``. ``pending`` + ``in_flight`` = 0 proves an empty mailbox. May
    be repeated: yes; each call leases anew.
    Positions mean nothing under another epoch: whoever says in ``attach`` or ``fetch`` what it last knew (``epoch``,
    and as ``position`` the ``high_water``) is told in ``epoch_changed`` whether the store is another one, new or
    restored from a backup. Tokens of another epoch settle nothing: their acks are answered ``false``.
``mailbox.peek({max?, after?, instance?})`` → ``{messages: [{message, state, attempts}…], more, after, epoch,
high_water, pending, in_flight, turn}``
    Looks at the caller's mailbox in order of delivery and takes nothing: no lease, no attempt, no news to senders. What
    is out is shown too (``state`` ``delivered``). ``after`` leads to the next page, at the same node and in the same
    ``epoch``. May be repeated: yes.
``mailbox.thread(id, {max?}?)`` → ``{messages: [{message, state}…], left_out}``
    What a message of the caller's belongs to: what it answers (``reply_to``), what that answers, and the answers to any
    of these; the ``max`` (50; 1 to 200) newest, the oldest of them first. Only what the caller sent, or was handed;
    takes nothing. ``left_out``: how many more there are, bodies that are gone included; of a thread of more than 5,000
    the node looks at the newest. May be repeated: yes. (A node of the release before doesn't have it.)
``mailbox.search({words?, with?, id?, thread?, since?, until?, encrypted?, after?, max?}?)`` → ``{messages: [{message,
state, signature?}…], more, looked, encrypted, without_body}``
    Messages that the caller sent, or was handed, the newest first, at most ``max`` (20; 1 to 100). ``words``: at
    most 16 texts, each of which stands in the subject, the procedure or the payload, in upper or lower case (of a
    payload that is no text its JSON is searched); ``with``: between the caller and that agent; ``id``: of that id;
    ``thread``: in the thread of that id; ``since``, ``until`` (ms): accepted then. One call looks at 8,192 records
    and reads 2 MiB of messages at most, each counted once for each word; if ``more`` is not null there may be
    others, and the same question with that as ``after`` goes on there, at another node too. So a call may have
    found nothing, and there is more.
    ``looked``: how many records it looked at; ``without_body``: messages whose bodies are gone. ``encrypted``: how
    many payloads the node couldn't read, of messages that the words don't fit otherwise; with ``encrypted`` true
    they are among ``messages``, for the caller to look into. What was cut from the journal is not found. May be
    repeated: yes. (A node of the release before doesn't have it.)
``mailbox.status([id…])`` → ``{id: {state, …}}``
    Of messages the caller sent or received. ``surfaced_at`` (ms): when a model first had it, or null; ``state`` doesn't
    tell that, because clients of before take a state that they don't know for an end. May be repeated: yes.
``mailbox.answer(id)`` → ``{state, message?, signature?}``
    Of a COMMAND that the caller's agent sent, whichever instance of it did: where it stands, and the RESULT or ERROR
    that answers it, if there is one and its body is kept. So a COMMAND that is repeated by another process, and is a
    ``duplicate``, gets its answer all the same: ask until it is there. Who asked a capability believes no other answer
    than this one: whom the COMMAND was given to, the node alone knows. May be repeated: yes.
``mailbox.cancel([id…])`` → ``[true | false…]``
    Of messages the caller sent that are not settled. A session that one was pushed to is told on its inbox topic, and
    may stop. An answer that comes all the same is refused as ``trishula.error.message_cancelled``. May be repeated:
    yes.

``mailbox.canary({id})`` → ``true | false``
    Sends a canary, or says that it has come: whichever it is, a client that attached with ``canaries`` calls it once
    with the ``id`` of each canary that it is told of on its inbox topic. A canary is no message: it is in no mailbox,
    no journal and no quota, and a client shows it to nobody. ``false``: the node did not ask this session for it, or
    waits no longer. May be repeated: yes. (A node of the release before does not have it, and tells of none.)

A message ``to`` ``capability:<name>`` goes to exactly one present agent that announced it with ``attach``, and is
granted to serve it, the least loaded first; it waits if there is none, and moves on if that one fails or is gone before
it acks. Whoever holds it acks it and answers it. Order between such messages is not promised. A sender's grants must
name ``capability:<name>`` or ``*``. Of linked nodes one hands the message out, to agents that are at it: at first the
one that accepted it; if none of its agents can take it and one at another node can, it makes that node the one, and so
on.

Attachments (caller: any agent): files beside messages. A message names one in its payload, as ``attachment`` =
``{digest, size_bytes, name?, media_type?}``; ``digest`` is ``sha256:`` and 64 hexadecimal digits
(:mod:`trishula.contract.attached`), and it may stand beside an encrypted payload (:mod:`trishula.contract.sealed`).
Send the file first: ``attachment.begin(digest, size_bytes)`` → ``{size_bytes, have_bytes, complete, chunk_bytes}``,
then what follows ``have_bytes`` by ``attachment.put(digest, offset, data)`` → the
same, in pieces of ``chunk_bytes`` (65,536) at most, until it is ``complete``: it is what its digest says then, and
fsynced. ``data`` is bytes (in JSON, as WAMP writes them: U+0000 and Base64). A piece at another ``offset`` than
``have_bytes`` changes nothing; so ask with ``begin`` after a broken connection, and go on. At most 8 pieces of an agent
are under way (else ``…rate_limited``), and an answer waits for the agent's budget (``attachments.rate``). A message
whose ``attachment`` the node hasn't complete, from that agent, is refused (``trishula.error.attachment_unknown``); one
sent with ``copies`` 2 as well, for a moment, until a second node has it (``…copies_unavailable``).
``attachment.of(id, {from?}?)`` → ``{digest, size_bytes, name?, media_type?, from, chunk_bytes}``: what a message names;
``from`` is the agent that sent it, the caller if absent. ``attachment.get(id, {from?, offset?, max_bytes?}?)`` →
``{data, offset, size_bytes}``: a piece of it. Both are for who sent the message, who it was delivered to or is for, and
operators, as long as the message is kept; to all others there is none. What a linked node took is brought from there:
until the piece is here, or while that node is away, ``…attachment_away`` says so, ``retry_after_s`` with it. Check the
digest of what you fetched. ``limits.attachment_bytes`` of ``attach`` is the largest that the node takes; where it is
missing the node takes none. May be repeated: yes, all of them. (A node of the release before has none of them, and
takes a payload with ``attachment`` like any other.)

Topics:

``agent.<agent>.inbox[.<instance>]`` (node → agent)
    One argument: ``[delivery…]``, delivery = ``{message, attempt, token, signature?}``. An event may have a second one,
    ``{cancelled: [{from, id, token}…]}``, and no deliveries then: these were delivered, and their senders have
    cancelled them since. They need no ack, and an ack would make them done. Or ``{canary: {id, to | from}}``: send it,
    or say that it has come, by ``mailbox.canary``; with ``road: "files"`` write it as a file for ``to`` first, as
    ``files/canary_files.py`` does, and whoever reads the file calls ``mailbox.canary`` as well. Pass over keys that you
    don't know.
    A WebSocket message with an event, and the answer to a ``fetch`` or ``peek``, has less than 1 MiB, unless it is one
    message that is larger.
``agent.<agent>.receipts`` (node → sender)
    One argument: ``[{id, to, state, at, …}…]``: later news of sent messages. ``state`` is ``delivered``, a final state,
    ``copies``: the message is on ``copies`` nodes now, ``surfaced``: it was put into a model's context, or ``unread``:
    it was delivered, and the model has not had it in time. Pass over what you don't know.
``agent.<agent>.topic.<name>``
    The agent's own topics: it alone publishes, any agent may subscribe.
``event.agent`` / ``event.node`` / ``event.fallback`` (node → all)
    Joins and leaves; links, ``{node, peer, state: "up" | "down", at}``; changes of the bus's mode as they reach each
    node, ``{node, mode, sends, reason, by, since}`` (see below).

``peer.<node>.hello`` / ``.journal`` / ``.presence`` / ``.canary`` / ``.agents`` / ``.attachment`` (node → node)
    What linked nodes tell each other; no client may listen or speak there.

Calls to agents: ``agent.<agent>.<procedure>``: registered by that agent, callable by whoever its grants allow.

Errors of procedures: an ERROR message that answers a COMMAND has the payload ``{error, message, data?}``, and the ERROR
of a live call the keyword argument ``data``: any JSON value of at most 64 KiB that the procedure raised with its error.
Agents of an earlier release send none, and pass over it.

Directory (caller: any agent): ``directory.list()``, ``directory.get(agent)``, ``directory.find({capability?,
presence?})`` → entries ``{agent, presence, since, node, capabilities, …}``, of an agent at another cell with ``cell``
and, in ``known_at`` (ms), when that cell said so last; ``directory.beat({sent_at, state?,
busy_until?, load?, progress?})`` → ``{received_at, answered_at, heartbeat_s?}``. ``heartbeat_s``, where a node has very
many sessions: so often is enough from now on, and the agent isn't called stale for it. ``sent_at`` and ``busy_until``
are by the agent's clock; the entry has ``busy_until`` by the node's, and in ``clock_skew_ms`` by how much the agent's
clock is ahead. ``busy_until`` counts for a day at most. May be repeated: yes.
``directory.turn({state?, doing?, for_s?}?)`` → ``{state, doing, since, until}``: the caller's agent is in a turn:
``state`` ``open``, ``blocked`` (it waits for a human) or ``closed``, for ``for_s`` seconds (1800; at most 86400),
unless somebody says something else before; without ``state`` it only tells. Until then the agent is busy in the
directory if a session of it is joined, with ``doing`` as its ``progress``; the node knows it over a restart, and a
linked node does not. ``mailbox.peek`` tells it as ``turn``. May be repeated: yes. (A node of the release before doesn't
have it.)

Dead letters (caller: an operator): ``admin.dead.list({agent?, limit?, after?})`` → ``{letters: [{seq, from, id, to,
type, reason, failures, attempts, dead_at, bytes}…], more}``; ``admin.dead.show(seq)`` → the letter with its
``message``; ``admin.dead.replay([seq…])`` → ``[true | false…]``: whether it is back in its mailbox, with no failures
and its first time to live; ``admin.dead.purge([seq…] | {before?})`` → how many bodies were deleted. May be repeated:
yes.

Mailboxes (caller: an operator): ``admin.mailbox.purge(agent, {sent?, dry_run?}?)`` → how many messages ended: all that
was open for an agent and its instances is dead, as it is when the agent goes from the agents file; with ``sent`` all
that is open from it, in whichever mailbox. ``dry_run``: only how many are open. May be repeated: yes.

``node.mailboxes({agent?, limit?}?)`` → ``[{address, pending, in_flight, bytes, oldest_at, consumer, senders, able?,
able_at?, unread?}…]``, the deepest first, at most ``limit`` (100): what is open, or consumed, at the node that is
asked; ``agent``: of one agent and its instances, or of ``capability:NAME``. ``consumer`` = ``{session, agent,
instance?, node, since, host?, busy_until?, by: "attach" | "fetch"}``, or null if nobody takes from it; ``senders`` =
``[{agent, messages}…]``, the five that have the most there. Of a capability: ``able``, agents here that serve it and
are present, and ``able_at``, nodes elsewhere that have some. ``unread``: how many of those in flight are with a session
behind which a model reads, and not in its context. The numbers are the node's own: of a mailbox that is consumed at
another node (``consumer.node``; ``session`` and ``since`` are null then), ``pending`` has what is being handled there
too. So don't add up what several nodes say. ``node.peek(address, {max?, after?}?)`` → as ``mailbox.peek``, and
``node``: looks at any mailbox and takes nothing. May be repeated: yes. (Caller: an operator. A node of the release
before has neither.)

Conversations without an end (caller: an operator): a message whose ``reply_to`` names another is a hop further than
that one, unless it is the RESULT or ERROR that answers a COMMAND. What goes on with a conversation of more hops than
the node allows in a time is refused for good, as ``trishula.error.loop_quarantined``. ``node.loops()`` → ``[{id, from,
agents, hops, since, quarantined_at, refused}…]``: those that are stopped at the node that is asked, by their first
message; ``admin.loop_release(id)`` → how many conversations that began with that id go on. May be repeated: yes. (A
node of the release before has neither, and refuses nothing.)

Work leases (caller: any agent): who works on what. ``lease.claim(scope, {shared?, note?, ttl_s?, wait_s?, queue?,
sure?, take_over?, use?}?)`` → lease = ``{id, state: "granted" | "waiting" | "refused", scope, holder, shared, fence,
provisional, ttl_s, claimed_at, node, note, before?, blockers?}``. ``scope`` is ``task:NAME``, ``role:NAME``,
``path:PATTERN`` or ``path:TREE:PATTERN``; :mod:`trishula.contract.scopes` says when two overlap. What overlaps is
granted to one agent at a time, unless all of those ``shared`` it. ``fence`` is an integer, higher for each grant, over
restarts and failovers: what the lease guards can refuse a lower one than it has seen. A lease stays as long as its
holder has a session at any node, and ``ttl_s`` (120; 1 to 2,592,000) longer. ``wait_s`` (0 to 60): how long the call
waits for its turn; with ``queue`` the claim waits on afterwards, and its holder gets a STATUS message when it is
granted: ``payload`` = ``{event: "granted" | "ended", lease, message}``, from the node (its id begins with ``node:``).
It gets one as well when a lease ends that it did not release. ``before``: how many others wait before it; ``blockers``:
``[{id, scope, holder, note}…]``. ``provisional``: not all linked nodes have confirmed it, so one that can't be reached
may have granted the same; when they meet, the earlier grant stays. ``sure``: what can't be confirmed is refused for now
(``trishula.error.lease_unsure``). ``take_over``: leases in its way whose ``node`` can't be reached, and whose holder is
at no node in reach, end. Claimed again, a lease is renewed, its ``ttl_s`` is not lowered, and a claim keeps its place.
Whoever waits without a session for 15 s lets others pass. ``use`` (at most 100 characters): the lease is wanted for one
of several uses by the agent, and the agent doesn't keep it for that. ``lease.renew(id, {ttl_s?, use?}?)`` → lease;
``lease.release(id, {use?}?)`` → what it was, and ``ended`` (``trishula.error.lease_unknown`` if the caller has none):
with ``use`` it ends if the agent neither keeps it nor has other uses of it whose session is there, without in any case;
in place of an id each takes a scope that the caller claimed, if that is one lease alone; ``lease.list({scope?,
mine?}?)`` → ``[lease…]``, also for observers; ``admin.lease_release(id, {reason})`` → what it was (caller: an
operator). All but the releases may be repeated. An agent claims, renews and lists 5 times a second, 200 at once
(``trishula.error.rate_limited``). (A node of the release before has none of them.)

Alerts (caller: an operator): ``node.alerts()`` → ``{node, roads: [{road, waiting, fault}…], conditions: [{kind, about,
sentence, since, notified}…]}``: what is wrong at the node that is asked, and who is told; ``since`` (ms) is null before
the node has noticed by itself. ``node.alert_test()`` → ``[{road, ok, detail}…]``: sends a test alert by each road,
once. May be repeated: yes. (A node of the release before has neither.)

Objectives (caller: an operator, or an observer): ``node.objectives({windows?, since?, until?, step_s?}?)`` → ``{node,
now, targets, verdicts, windows, watched_since, outages, maintenance, triggers, canaries, canaries_unmeasured, series?,
more?}``: what the node promises, and how it keeps it. ``windows`` is a list of ``5m``, ``1h``, ``24h``, ``7d`` and
``30d``, all of them by default. ``targets`` = ``{availability, p50, p99, loss, failover, connect, reconnects}``: parts
of 1, ms, and a number for each agent and day; ``verdicts`` = ``{objective: {window: {value, budget, burn, proven}}}``:
the figure, which part of the error budget is left, and how fast it is used (1: just used up when the window is over),
each null where nothing was measured; ``proven``: so much was measured that one bad case alone doesn't use the budget
up. ``windows`` = ``{window: totals}``, totals = ``{watched_s, up_s, planned_s, present_s, accepted, done, dead,
expired, cancelled, refused, joins, reconnects, canaries, canaries_lost, link_canaries, link_canaries_lost,
file_canaries, file_canaries_lost, delivery_ms, done_ms, failover_ms, connect_ms, canary_ms, link_canary_ms,
file_canary_ms}`` without what is 0; the last seven are sketches of durations in ms (DDSketch, 1 %) as bytes in base64.
Totals of several nodes add up. ``outages`` = ``[[from, until]…]``, in ms, and ``maintenance`` = ``[{begin, until,
reason, by}…]``: since the longest window's begin, or ``since`` if that is earlier, but no more than since
``watched_since``, from when on the node knows (a node of the release before doesn't tell it); ``triggers`` =
``[{trigger, reason}…]``: what fires now. ``canaries`` = ``[{from, to, road: "live" | "link" | "files", canaries, lost,
p50_ms, p99_ms}…]``: the last 60 of each pair whose first agent is at this node, of the 200 pairs that lost most or were
slowest; ``files`` is the road between folders, ``link`` the one to an agent at a linked node. ``canaries_unmeasured`` =
``[peer…]``: to whose agents none are sent, because the peer is of an earlier release (a node of the release before
doesn't tell it). With ``since`` the answer has ``series`` = ``[{at, step_s, …totals}…]`` too, the oldest first, and in
``more`` whether there are further ones: ask again with ``since`` behind the last one. Minutes are kept for a day, hours
for 100 days; steps of hours are made of hours. May be repeated: yes.

The archive of a journal (caller: an operator): ``admin.archive({older_than_s?, dry_run?}?)`` → ``{node, records, first,
last, first_at, last_at, file}``: the oldest records that were written before the last ``older_than_s`` seconds
(``retention.records``), as many as one segment has, are in the segment ``file`` of the node's state directory then, and
no more in its store; with ``dry_run`` it says only which they would be, and ``file`` is null. ``records`` is 0, and the
others are 0 or null, if none is so old; ask again until it is. A linked node refuses. May be repeated: yes. (A node of
the release before doesn't have it.)

Planned maintenance (caller: an operator): ``admin.maintenance("start", {for_s?, reason?}?)`` and
``admin.maintenance("end")`` → ``{node, maintenance: {begin, until, reason, by} | null}``: for ``for_s`` (1800) the node
may be down, and that counts for no objective. Another ``start`` sets a new end. ``null``: none was under way. May be
repeated: yes. (A node of the release before has neither of the two.)

What the node itself says to a sender: of a message that is dead (not of an ERROR or a RESULT), and of a COMMAND that
expired, its sender gets an ERROR message in its mailbox: ``from`` = the recipient it had, ``reply_to`` = its id,
``payload`` = ``{error, message, reason}`` with ``trishula.error.dead_letter`` or ``trishula.error.message_expired``,
and an id that begins with ``node:``, which nobody else may use.

Whether a node can serve (caller: an operator, or an observer): ``node.ready()`` → ``{ready, node, version, checks:
[{check, ok, degraded?, refused?, reason, …}…]}``. ``check`` is ``running``, ``store``, ``disk``, ``peers``, ``clock``,
``loop`` or ``canary``; ``reason`` is one sentence, empty if nothing is wrong; with ``degraded`` something is, and the
node serves all the same; with ``refused`` the store answered and refused, which no restart mends. Further keys are
figures, with their units in their names. The node's HTTP page ``/ready`` answers the same map, with status 200 or 503.
May be repeated: yes.

The bus's mode: ``{mode: "live" | "fallback", sends, reason, by, since}``; ``reason`` is one line, ``by`` who set it (an
agent, or ``node:NAME``: a node that did so by itself, because of its ``triggers``), and ``since`` (ms) is 0 if it never
was. While ``sends`` is false ``mailbox.send`` refuses messages, one by one, as
``trishula.error.fallback_on`` with ``retry_after_s``, and delivers what it has; taken are a RESULT or an ERROR that
answers a COMMAND which the node knows, an ACK, a HEARTBEAT, and a repeat of what was accepted. Such an answer doesn't
wait behind messages that are refused so. With ``sends`` true agents that have a folder write files as well, and
nothing is refused. ``admin.fallback("on" | "off", {reason, sends?})`` → the mode with ``node`` (caller: an operator;
``reason``: 1 to 500 characters in one line; ``sends``, of ``on`` alone, is false if it is left out). It is on disk
then, as a record ``mode`` of the journal, and holds at every linked node as soon as that has the record: the newest
``since`` counts, then the node's name; a record is never older than the one that it replaces. May be repeated: yes.
``node.fallback()`` → the mode with ``node`` (caller: an operator, or an observer). While the bus is not live the
answer of ``mailbox.attach`` has the mode too, as ``fallback``. A node of the release before has neither procedure, and
refuses nothing.

Questions (``audit.*``: an operator; an agent about its own messages), ``node.*`` and ``admin.*`` (an operator). An
observer, an agent that is marked as one in the agents file, may call ``directory.*``, ``audit.query``, ``audit.why``
(about everybody's messages), ``node.status``, ``node.ready``, ``node.objectives``, ``node.mailboxes``,
``node.fallback`` and ``admin.dead.list``, hear the events, and nothing else: none of these tells a payload. Its beats
tell ``sent_at`` alone. A broadcast is not for observers.

Records of a journal (caller: an operator, or an observer): ``audit.query({agent?, with?, id?, type?, outcome?,
procedure?, subject?, kind?, kinds?, since?, until?, node?, after?, limit?, archive?}?)`` → ``{records, more, after,
looked, bodies_gone?, archived_to?, archived_of?, archive_faults?, missing?}``: those that fit all that is given, oldest
first. ``agent`` and ``with`` are in the record, or sent or got a message that it tells of; with both, the one and the
other. ``type`` is a message's; ``outcome`` is what became of it (``done``, ``dead``, ``expired``, ``cancelled``), or
``refused``: the records of refusals. ``procedure`` is the whole name, ``subject`` a part of the text, both of messages
whose bodies are still there (``bodies_gone``: of how many they were not) and not for observers. ``kinds`` is a list,
``kind`` one. Instants are ms, by the clock of whoever wrote the record; ``until`` is not within. ``archived_to``: up to
this record the journal of the node is in its archive alone, and not searched; with ``*``, ``archived_of`` tells that by
the other nodes. With ``archive`` (true) the node's archive is searched as well, before its store: ``archive_faults``
says of which records a segment is missing or damaged, a sentence each. Not of an ``outcome`` but ``refused``, a
procedure or a subject, and of no other node: ``archived_to`` says so. ``node`` names another node, ``*`` all. A node
looks at so many records (``looked``) at most: with ``more``, go on with ``after``, whether there were any or not. May
be repeated: yes. (A node of the release before knows neither ``with``, ``type``, ``outcome``, ``procedure``,
``subject``, ``kinds`` nor ``archive``, and refuses them with ``trishula.error.key_unknown``.)

The life of a message (caller: an agent about its own, an operator or an observer about all): ``audit.why(id, {from?,
archive?, after?}?)`` → ``{messages, missing}``, each message with its ``events``; a life with ``archived_here`` begins
in the node's archive. With ``archive`` (true) the answer is what the next segment of that behind ``after`` tells, and
has ``after`` and ``base`` (the last record that is there alone), ``more``, and ``archive_faults?`` as above: ask on
with its ``after`` until there is no ``more``, and put the events together, each once by ``node`` and ``seq``. An
``after`` that is no further than the one asked with means that the node began anew. May be repeated: yes. (A node of
the release before refuses ``archive``.)

Records as evidence (caller: an operator): ``audit.records({node?, after?, limit?, bodies?}?)`` → ``{node, origin,
epoch, key, previous, records, signature, high_water, bodies?}``: those of one journal behind ``after``, none left out,
each as ``[sequence, at, kind, facts, digest]``. ``previous`` is the digest before the first of them, ``key`` the node's
public key, and ``signature`` that of a statement about the last of them, or the one at ``after`` if there is none:
:mod:`trishula.evidence.signing` has it to the byte. ``bodies`` are the envelopes of the messages that they accepted, as
far as the node still has them; each belongs to the records whose facts state its SHA-256. Digests, key and signature
are hexadecimal; key and signature are empty at a node without a key. May be repeated: yes. (A node of the release
before doesn't have it.)

Redaction (caller: an operator): ``audit.redact(id, {reason, from?})`` → ``{redacted, already, messages, at, by,
reason}``: deletes the payload of a settled message, here and at all linked nodes, when they copy the record that says
so. ``redacted`` says whether a payload was deleted now, ``already`` whether it was redacted before, of ``messages``
recipients; ``at``, ``by`` and ``reason`` are those of the first time. May be repeated: yes. (A node of the release
before doesn't have it, and, if it is linked, copies the record and keeps its payload.)

This module holds every URI; nothing else in the project spells one out (a test looks).
"""

# Long because: the whole wire contract is told in one place, beside the names that it is about.

from __future__ import annotations

from dataclasses import dataclass

from trishula.contract.addresses import AGENT_RULE, Address, is_agent_name

__all__ = [
    "REALM",
    "PREFIX",
    "AgentUri",
    "inbox_of",
    "parse_agent_uri",
    "peer_topic",
    "procedure_of",
    "receipts_of",
    "topic_named",
    "topic_of",
]

REALM = "trishula"
PREFIX = "trishula."
DEFAULT_PORT = 8765
WEBSOCKET_PATH = "ws"
#: Where the links of other nodes come in.
PEER_PATH = "peer"

MAILBOX_SEND = "trishula.mailbox.send"
MAILBOX_ATTACH = "trishula.mailbox.attach"
MAILBOX_ACK = "trishula.mailbox.ack"
MAILBOX_NACK = "trishula.mailbox.nack"
MAILBOX_WORKING = "trishula.mailbox.working"
MAILBOX_SURFACED = "trishula.mailbox.surfaced"
MAILBOX_FETCH = "trishula.mailbox.fetch"
MAILBOX_PEEK = "trishula.mailbox.peek"
MAILBOX_THREAD = "trishula.mailbox.thread"
MAILBOX_SEARCH = "trishula.mailbox.search"
MAILBOX_STATUS = "trishula.mailbox.status"
MAILBOX_ANSWER = "trishula.mailbox.answer"
MAILBOX_CANCEL = "trishula.mailbox.cancel"
MAILBOX_CANARY = "trishula.mailbox.canary"

ATTACHMENT_BEGIN = "trishula.attachment.begin"
ATTACHMENT_PUT = "trishula.attachment.put"
ATTACHMENT_GET = "trishula.attachment.get"
ATTACHMENT_OF = "trishula.attachment.of"

DIRECTORY_LIST = "trishula.directory.list"
DIRECTORY_GET = "trishula.directory.get"
DIRECTORY_FIND = "trishula.directory.find"
DIRECTORY_BEAT = "trishula.directory.beat"
DIRECTORY_TURN = "trishula.directory.turn"

LEASE_CLAIM = "trishula.lease.claim"
LEASE_RENEW = "trishula.lease.renew"
LEASE_RELEASE = "trishula.lease.release"
LEASE_LIST = "trishula.lease.list"

EVENT_AGENT = "trishula.event.agent"
EVENT_NODE = "trishula.event.node"
EVENT_FALLBACK = "trishula.event.fallback"
EVENTS_PREFIX = "trishula.event."

AUDIT_QUERY = "trishula.audit.query"
AUDIT_WHY = "trishula.audit.why"
AUDIT_VERIFY = "trishula.audit.verify"
AUDIT_RECORDS = "trishula.audit.records"
AUDIT_REDACT = "trishula.audit.redact"
AUDIT_PREFIX = "trishula.audit."

NODE_STATUS = "trishula.node.status"
NODE_MAILBOXES = "trishula.node.mailboxes"
NODE_PEEK = "trishula.node.peek"
NODE_LOOPS = "trishula.node.loops"
NODE_ALERTS = "trishula.node.alerts"
NODE_ALERT_TEST = "trishula.node.alert_test"
NODE_READY = "trishula.node.ready"
NODE_FALLBACK = "trishula.node.fallback"
NODE_OBJECTIVES = "trishula.node.objectives"
NODE_PREFIX = "trishula.node."
ADMIN_DEAD_LIST = "trishula.admin.dead.list"
ADMIN_DEAD_SHOW = "trishula.admin.dead.show"
ADMIN_DEAD_REPLAY = "trishula.admin.dead.replay"
ADMIN_DEAD_PURGE = "trishula.admin.dead.purge"
ADMIN_LEASE_RELEASE = "trishula.admin.lease_release"
ADMIN_LOOP_RELEASE = "trishula.admin.loop_release"
ADMIN_MAILBOX_PURGE = "trishula.admin.mailbox.purge"
ADMIN_FALLBACK = "trishula.admin.fallback"
ADMIN_ARCHIVE = "trishula.admin.archive"
ADMIN_MAINTENANCE = "trishula.admin.maintenance"
ADMIN_PREFIX = "trishula.admin."
PEER_PREFIX = "trishula.peer."

#: Called by the router itself, never by a client: proof of identity and permission.
AUTHENTICATE = "trishula.internal.authenticate"
AUTHORIZE = "trishula.internal.authorize"
#: Called by the node itself alone, and answers what it is called with: the router's part of the way of a canary.
CANARY = "trishula.internal.canary"

#: Asked and listened to by the links of the node's peers alone: the names that its own sessions are behind.
LINK_NAMES = "trishula.internal.link.names"
LINK_CHANGED = "trishula.internal.link.changed"

AGENT_PREFIX = "trishula.agent."

#: What stands behind ``trishula.agent.<agent>.`` and is not a procedure.
_RESERVED_CHILDREN = frozenset({"inbox", "receipts", "topic"})


def inbox_of(address: Address) -> str:
    """The topic on which the node pushes deliveries to ``address``."""
    topic = f"{AGENT_PREFIX}{address.agent}.inbox"
    return topic if address.instance is None else f"{topic}.{address.instance}"


def receipts_of(agent: str) -> str:
    """The topic on which the node tells ``agent`` what became of the messages it sent."""
    return f"{AGENT_PREFIX}{agent}.receipts"


def peer_topic(node: str, kind: str) -> str:
    """The topic on which the other nodes say something of one kind to ``node``."""
    return f"{PEER_PREFIX}{node}.{kind}"


def topic_of(agent: str, name: str) -> str:
    """A topic of the agent's own, on which only it publishes."""
    return f"{AGENT_PREFIX}{agent}.topic.{name}"


def topic_named(topic: str, of: str | None, own: str) -> str:
    """The URI of a topic as programs name it: by its name and whose it is, or by its URI.

    Args:
        topic: a topic's name, or the URI of any topic, such as :data:`EVENT_AGENT`.
        of: whose topic it is; ``None`` for our own agent's.
        own: our own agent.

    Raises:
        ValueError: it is a URI and is said to be somebody's, nobody can have it, or ``of`` is no agent's name.
    """
    if topic.startswith(PREFIX):
        if of is not None:
            raise ValueError(f'{topic} is a topic already; leave out of="{of}", or write the topic\'s name alone')
        return topic
    if not topic or topic.startswith(".") or topic.endswith(".") or any(char.isspace() for char in topic):
        raise ValueError(f"{topic!r} can't be a topic's name: it is words with dots between them, without spaces")
    if of is not None and not is_agent_name(of):
        raise ValueError(f"{of!r} can't have a topic: of is an agent's name, {AGENT_RULE}")
    return topic_of(own if of is None else of, topic)


def procedure_of(agent: str, procedure: str) -> str:
    """The URI of a procedure that ``agent`` registers.

    Raises:
        ValueError: if the name would fall on the agent's inbox, receipts or topics.
    """
    if procedure.partition(".")[0] in _RESERVED_CHILDREN:
        raise ValueError(f"a procedure can't be named {procedure!r}: that is the name of one of the agent's topics")
    return f"{AGENT_PREFIX}{agent}.{procedure}"


@dataclass(frozen=True, slots=True)
class AgentUri:
    """A URI below ``trishula.agent.<agent>.``, taken apart.

    Attributes:
        agent: the agent in whose namespace it lies.
        kind: ``inbox``, ``receipts``, ``topic`` or ``procedure``.
        rest: what follows: an instance, a topic's name, a procedure's name, or ``""``.
    """

    agent: str
    kind: str
    rest: str


def parse_agent_uri(uri: str) -> AgentUri | None:
    """Take a URI of an agent's namespace apart; ``None`` if it lies outside of every agent's namespace."""
    if not uri.startswith(AGENT_PREFIX):
        return None
    agent, _, below = uri[len(AGENT_PREFIX) :].partition(".")
    if not agent or not below:
        return None
    child, _, rest = below.partition(".")
    if child in _RESERVED_CHILDREN:
        return AgentUri(agent, child, rest)
    return AgentUri(agent, "procedure", below)
