// On a phone a row of a table stands as a list (site.css): each cell then needs its column's name beside it.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    if (names.length < 3) continue;
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, index) => {
        // The first one names the row, unless it is a mere number.
        if (index > 0 || /^[\d,.]+$/.test(cell.textContent.trim())) cell.dataset.column = names[index];
      });
    }
  }
});
