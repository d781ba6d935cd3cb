// Names the visit of this browser tab in the page's URL: after a reload, the server restores its inputs
// and answers. A bookmark or a link in another tab begins another visit.
(() => {
  const random = () =>
    [...crypto.getRandomValues(new Uint8Array(16))]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const visit = sessionStorage.getItem("visit") ?? random();
  sessionStorage.setItem("visit", visit);
  const url = new URL(location.href);
  url.searchParams.set("visit", visit);
  history.replaceState(history.state, "", url);
})();
