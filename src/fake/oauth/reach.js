// Everything by which a page makes a browser connect, to a port of this machine.
(async () => {
  const here = ["http://127.0.0.1:$PORT", "http://localhost:$PORT", "http://$INSIDE:$PORT"];
  const add = (name, more) => document.body.append(Object.assign(document.createElement(name), more));
  const worker = "for (const to of " + JSON.stringify(here) + ") fetch(to + '/worker', { mode: 'no-cors' }).catch(() => {})";
  for (const to of here) {
    add("link", { rel: "preconnect", href: to });
    add("link", { rel: "stylesheet", href: to + "/style" });
    add("link", { rel: "prefetch", href: to + "/ahead" });
    add("img", { src: to + "/picture" });
    add("script", { src: to + "/script" });
    add("iframe", { src: to + "/frame" });
    add("object", { data: to + "/object" });
    add("video", { src: to + "/video" });
    fetch(to + "/fetch", { mode: "no-cors" }).catch(() => {});
    navigator.sendBeacon(to + "/beacon", "x");
    new EventSource(to + "/events");
  }
  for (const to of here) {
    new WebSocket(to.replace("http", "ws") + "/socket");
  }
  new Worker(URL.createObjectURL(new Blob([worker], { type: "text/javascript" })));
  const call = new RTCPeerConnection({ iceServers: [{ urls: "stun:127.0.0.1:$UDP" }, { urls: "turn:127.0.0.1:$PORT?transport=tcp", username: "x", credential: "x" }] });
  call.createDataChannel("x");
  await call.setLocalDescription(await call.createOffer());
  // It is seen at the site how far this has come, and at the gateway's page where it goes.
  setTimeout(() => fetch("/site/login", { method: "POST", body: new URLSearchParams({ username: "reach" }) }), 1000);
  setTimeout(() => { location = here[1] + "/page"; }, 1500);
})();
