"use strict";
(() => {
  const texts = JSON.parse(document.getElementById("texts").textContent);
  const names = ["device", "model", "outcome"];
  const selects = Object.fromEntries(names.map((name) => [name, document.getElementById("filter-" + name)]));
  const items = [...document.querySelectorAll("[data-device]")];
  const status = document.getElementById("filter-status");
  const cells = items.filter((item) => item.matches("details.cell"));

  const fits = (item, name) => {
    const wanted = selects[name].value;
    const own = item.dataset[name];
    return wanted === "" || own === undefined || own.split("\n").includes(wanted);
  };
  const apply = () => {
    for (const item of items) item.hidden = !names.every((name) => fits(item, name));
    const shown = cells.filter((cell) => !cell.hidden).length;
    status.textContent = texts.shown.replace("{shown}", shown).replace("{all}", cells.length);
  };
  const remember = () => {
    const query = new URLSearchParams();
    for (const name of names) if (selects[name].value) query.set(name, selects[name].value);
    history.replaceState(null, "", "#" + query);
  };
  const follow = () => {
    let hash = location.hash.slice(1);
    if (hash.includes("=")) {
      const query = new URLSearchParams(hash);
      for (const name of names) {
        const wanted = query.get(name) ?? "";
        const known = [...selects[name].options].some((option) => option.value === wanted);
        selects[name].value = known ? wanted : "";
      }
      apply();
      return;
    }
    try { hash = decodeURIComponent(hash); } catch { return; }
    const target = hash && document.getElementById(hash);
    if (!target) return;
    if (target.closest("[hidden]")) {
      for (const name of names) selects[name].value = "";
      apply();
    }
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
    const focus = target.matches("details") ? target.querySelector("summary") : target;
    focus.focus({ preventScroll: true });
  };
  for (const name of names) selects[name].addEventListener("change", () => { apply(); remember(); });
  document.getElementById("filter-clear").addEventListener("click", () => {
    for (const name of names) selects[name].value = "";
    apply();
    remember();
  });
  document.getElementById("open-all").addEventListener("click", () => {
    const isOpen = cells.every((cell) => cell.hidden || cell.open);
    for (const cell of cells) if (!cell.hidden) cell.open = !isOpen;
  });
  for (const one of document.querySelectorAll("ul.tasks > li")) {
    const button = document.createElement("button");
    const command = one.querySelector(".command").textContent;
    button.type = "button";
    button.className = "copy";
    button.textContent = texts.copy;
    button.setAttribute("aria-label", `${texts.label}: ${one.querySelector("summary").textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command);
      button.textContent = texts.copied;
    });
    one.append(button);
  }
  const state = document.getElementById("signature-state");
  if (state) {
    const own = document.getElementById("signature");
    const signed = getComputedStyle(own).getPropertyValue("--signoff").replaceAll('"', "").trim();
    const found = !signed ? "none" : signed === own.dataset.signoff ? "match" : "other";
    state.textContent = state.dataset[found];
    state.className = `state-${found}`;
  }
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
  addEventListener("hashchange", follow);
  document.getElementById("filters").hidden = false;
  apply();
  follow();
})();
