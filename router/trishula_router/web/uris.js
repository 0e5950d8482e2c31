// The names of the wire contract that the page uses; a test compares each with trishula/contract/uris.py.

export const REALM = "trishula";
export const WEBSOCKET_PATH = "ws";

export const MAILBOX_SEND = "trishula.mailbox.send";
export const MAILBOX_ANSWER = "trishula.mailbox.answer";
export const DIRECTORY_LIST = "trishula.directory.list";
export const AUDIT_QUERY = "trishula.audit.query";
export const AUDIT_WHY = "trishula.audit.why";
export const NODE_STATUS = "trishula.node.status";
export const NODE_MAILBOXES = "trishula.node.mailboxes";
export const ADMIN_DEAD_LIST = "trishula.admin.dead.list";
export const ADMIN_DEAD_SHOW = "trishula.admin.dead.show";
export const ADMIN_DEAD_REPLAY = "trishula.admin.dead.replay";
export const EVENT_AGENT = "trishula.event.agent";
export const EVENT_NODE = "trishula.event.node";
