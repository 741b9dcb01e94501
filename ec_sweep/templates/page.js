"use strict";
// Without this a number still leads to its entry at the end of the page.
{
  const dialog = document.getElementById("origin");
  const content = dialog.querySelector(".content");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("td a, th a");
    const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (!link || !plain) return;
    const entry = document.getElementById(link.hash.slice(1));
    event.preventDefault();
    content.replaceChildren(...Array.from(entry.childNodes, (node) => node.cloneNode(true)));
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("button, a[href^='#']")) dialog.close();
  });
  // Boxes that hide a part say so in words, too: a shadow is easily overlooked.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
    }
  });
  for (const box of document.querySelectorAll(".scroll")) watch.observe(box);
  const address = document.getElementById("mlflow");
  if (address) {
    address.parentElement.hidden = false;
    address.addEventListener("change", () => {
      const base = address.value.trim().replace(/\/+$/, "");
      if (!/^https?:\/\//.test(base)) return;
      document.querySelector(".address").textContent = base;
      for (const run of document.querySelectorAll("a.run")) {
        run.href = `${base}/#/runs/${run.textContent}`;
      }
    });
  }
}
