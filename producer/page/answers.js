// What was said of one picture is hidden while another is chosen. It is seen to here, as what the
// server says may come late, and would take away what was said since.
(() => {
  const chosen = () => {
    const url = document.querySelector("#url :is(input, textarea)")?.value.trim();
    const picture = document.querySelector("#picture img")?.src ?? "";
    return url || decodeURIComponent(picture.split("/file=")[1] ?? "");
  };
  const look = () => {
    const about = chosen();
    for (const said of document.querySelectorAll(".beside")) {
      said.hidden = said.getAttribute("cite") !== about;
    }
  };
  new MutationObserver(look).observe(document, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["src", "cite"],
  });
  document.addEventListener("input", look);
})();
