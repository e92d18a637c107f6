// The page on which a person uses the browser that Weir has opened for them: pictures in, clicks and keys out. Nothing is kept here, and
// nothing is asked of anybody but the gateway.
"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const main = by("main"), canvas = by("page"), keys = by("keys"), cover = by("cover");
  const paper = canvas.getContext("2d", { alpha: false });
  const relayed = main.dataset.relayed === "true";
  const place = location.href.replace(/^http/, "ws").replace(/[?#].*$/, "");
  const socket = new WebSocket(place + "/relay", ["weir-relay", main.dataset.ticket]);
  socket.binaryType = "arraybuffer";
  const say = (message) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); };

  // --- what the gateway tells

  let size = [0, 0], ends = null, over = false, shown = false, asked = null;
  const words = {
    opening: ["Opening the page…", "A browser is being started for you."],
    taking: ["You are signed in", "One moment: the account is being added."],
    done: ["Done", ""], failed: ["That did not work", ""], ended: ["This sign-in has ended", ""],
    cancelled: ["Cancelled", ""], late: ["Out of time", ""],
  };
  const tell = (news) => {
    over = over || !!news.message;
    ends = over ? null : performance.now() + news.left * 1000;
    by("host").textContent = news.host || "…";
    by("lock").hidden = !news.secure;
    by("notice").hidden = !news.notice || over;
    by("notice").textContent = news.notice || "";
    const hand = news.state === "waiting";
    const [title, text] = hand && !relayed
      ? ["Sign in in the other window", "A browser window has opened on the machine where the gateway runs. Sign in there; this page notices."]
      : words[news.state] || (shown ? [] : words.opening);
    cover.hidden = hand && relayed && shown;
    if (!cover.hidden) {
      main.dataset.state = hand && !shown && relayed ? "opening" : news.state;
      by("title").textContent = title || words.opening[0];
      by("text").textContent = news.message || text || "";
    }
    if (news.next) { by("next").href = news.next; by("next").hidden = false; }
    ask(news.dialog);
    if (over) finish(news.state);
  };
  const finish = (state) => {
    for (const id of ["cancel", "back", "left", "type", "where"]) by(id).hidden = true;
    document.body.classList.add("over");
    if (state === "done" && window.opener) setTimeout(() => window.close(), 1500);
  };
  const draw = async (data) => {
    const head = new DataView(data);
    const [width, height] = [head.getUint16(0), head.getUint16(2)];
    const picture = await createImageBitmap(new Blob([data.slice(4)], { type: "image/jpeg" }));
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      [canvas.width, canvas.height] = [picture.width, picture.height];
    }
    paper.drawImage(picture, 0, 0);
    picture.close();
    size = [width, height];
    fit();
    if (!shown) { shown = true; cover.hidden = !over; keys.focus({ preventScroll: true }); }
    say({ t: "shown" });
  };
  // As large as there is room, and no larger than it is.
  const fit = () => {
    const room = by("view").getBoundingClientRect();
    const part = Math.min(1, room.width / size[0], room.height / size[1]);
    [canvas.style.width, canvas.style.height] = size.map((side) => Math.floor(side * part) + "px");
  };
  let last = Promise.resolve();
  socket.onopen = measure;
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") tell(JSON.parse(data));
    else last = last.then(() => draw(data)).catch(() => say({ t: "shown" }));
  };
  socket.onclose = () => {
    if (over) return;
    over = true;
    ends = null;
    main.dataset.state = "failed";
    by("title").textContent = "The connection is gone";
    by("text").textContent = "The sign-in may still be open: load this page again to go on.";
    cover.hidden = false;
  };
  setInterval(() => {
    const left = ends === null ? 0 : Math.max(0, Math.round((ends - performance.now()) / 1000));
    by("left").textContent = ends === null ? "" : Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0") + " left";
    by("left").classList.toggle("soon", left < 60);
  }, 500);

  // --- what the page asks in a box of the browser's own

  const ask = (dialog) => {
    const what = dialog ? dialog.kind + dialog.message : null;
    if (what === asked) return;
    asked = what;
    by("box").hidden = !dialog;
    if (!dialog) return;
    by("question").textContent = dialog.message;
    by("answer").hidden = dialog.kind !== "prompt";
    by("answer").value = "";
    by("no").hidden = dialog.kind === "alert";
    by(dialog.kind === "prompt" ? "answer" : "yes").focus();
  };
  const answer = (ok) => say({ t: "answer", ok, text: by("answer").hidden ? null : by("answer").value });
  by("yes").onclick = () => answer(true);
  by("no").onclick = () => answer(false);
  by("cancel").onclick = () => { say({ t: "cancel" }); by("cancel").disabled = true; };
  by("back").onclick = () => { say({ t: "back" }); keys.focus(); };
  // A keyboard of glass comes up by itself where a tap may call it, and by this anywhere.
  by("type").onclick = () => keys.focus({ preventScroll: true });

  if (!relayed) return;

  // --- how large

  function measure() {
    if (!relayed) return;
    const room = by("view").getBoundingClientRect();
    const wide = Math.round(Math.min(1200, Math.max(320, room.width)));
    const high = Math.round(Math.min(1000, Math.max(240, room.height)));
    say({ t: "size", width: wide, height: high });
    if (shown) fit();
  }
  let due = 0;
  addEventListener("resize", () => { clearTimeout(due); due = setTimeout(measure, 250); });

  // --- the pointer

  const modifiers = (e) => (e.altKey ? 1 : 0) | (e.ctrlKey || e.metaKey ? 2 : 0) | (e.shiftKey ? 8 : 0);
  const names = ["left", "middle", "right"];
  const held = (e) => (e.buttons & 1 ? "left" : e.buttons & 2 ? "right" : e.buttons & 4 ? "middle" : "none");
  const at = (e) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((e.clientX - box.left) / box.width) * size[0], y: ((e.clientY - box.top) / box.height) * size[1] };
  };
  const point = (kind, e, more) => say({ t: "mouse", kind, ...at(e), modifiers: modifiers(e), ...more });
  let clicks = 0, when = 0, touch = null, moved = null;
  const count = (e) => { clicks = e.timeStamp - when < 400 ? clicks + 1 : 1; when = e.timeStamp; return clicks; };
  const press = (e, button) => { point("move", e); point("down", e, { button, clicks: count(e) }); };
  canvas.addEventListener("pointerdown", (e) => {
    e.preventDefault();
    keys.focus({ preventScroll: true });
    canvas.setPointerCapture(e.pointerId);
    if (e.pointerType === "touch") { touch = { x: e.clientX, y: e.clientY, scrolled: false }; return; }
    press(e, names[e.button] || "left");
  });
  canvas.addEventListener("pointerup", (e) => {
    if (e.pointerType !== "touch") return point("up", e, { button: names[e.button] || "left", clicks });
    if (touch && !touch.scrolled) { keys.focus({ preventScroll: true }); press(e, "left"); point("up", e, { button: "left", clicks }); }
    touch = null;
  });
  canvas.addEventListener("pointermove", (e) => {
    if (e.pointerType === "touch") {
      if (!touch) return;
      const [dx, dy] = [touch.x - e.clientX, touch.y - e.clientY];
      if (!touch.scrolled && Math.hypot(dx, dy) < 8) return;
      point("wheel", e, { dx, dy });
      touch = { x: e.clientX, y: e.clientY, scrolled: true };
      return;
    }
    // The last of many: one for each picture of the screen is enough.
    if (!moved) requestAnimationFrame(() => { const one = moved; moved = null; point("move", one, { button: held(one) }); });
    moved = e;
  });
  canvas.addEventListener("wheel", (e) => {
    e.preventDefault();
    const unit = e.deltaMode === 1 ? 16 : 1;
    point("wheel", e, { dx: e.deltaX * unit, dy: e.deltaY * unit });
  }, { passive: false });
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());

  // --- the keyboard

  const special = { Enter: "\r", Backspace: "", Tab: "", Delete: "", Escape: "", ArrowLeft: "", ArrowRight: "", ArrowUp: "", ArrowDown: "",
    Home: "", End: "", PageUp: "", PageDown: "", Shift: "", Control: "", Alt: "" };
  const key = (down, e) => {
    const text = special[e.key] ?? (e.ctrlKey || e.metaKey || e.altKey ? "" : e.key);
    const message = { t: "key", down, key: e.key, code: e.code, number: e.keyCode, modifiers: modifiers(e) };
    if (down && text) message.text = text;
    say(message);
  };
  // Printable keys, the special ones, and the shortcuts of text fields. Everything else is the person's own browser's; pasting is an event
  // of its own.
  const ours = (e) => {
    if (e.isComposing || e.keyCode === 229 || e.key === "F6") return false;
    if (e.key in special) return true;
    if (e.ctrlKey || e.metaKey) return ["a", "c", "x", "z", "y"].includes(e.key.toLowerCase());
    return e.key.length === 1 || [...e.key].length === 1;
  };
  keys.addEventListener("keydown", (e) => {
    if (e.key === "F6") { e.preventDefault(); by("cancel").focus(); return; }
    if (ours(e)) { e.preventDefault(); key(true, e); }
  });
  keys.addEventListener("keyup", (e) => { if (ours(e)) { e.preventDefault(); key(false, e); } });
  keys.addEventListener("paste", (e) => {
    e.preventDefault();
    say({ t: "text", text: e.clipboardData.getData("text/plain").slice(0, 4000) });
  });
  // What a keyboard puts together (on a phone, or of several keys) arrives here; a space is kept so that there is something to delete.
  const rest = () => { keys.value = " "; keys.setSelectionRange(1, 1); };
  const written = () => { const text = keys.value.trim(); rest(); if (text) say({ t: "text", text }); };
  keys.addEventListener("compositionend", written);
  keys.addEventListener("input", (e) => {
    if (e.isComposing) return;
    if (e.inputType === "deleteContentBackward") {
      const event = { key: "Backspace", code: "Backspace", keyCode: 8 };
      key(true, event);
      key(false, event);
      return rest();
    }
    if (e.inputType === "insertText" && e.data === " ") { say({ t: "text", text: " " }); return rest(); }
    written();
  });
  rest();
})();
