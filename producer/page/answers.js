// Hides the icon of a broken image: a chosen file that is no image, or that this browser cannot show.
for (const type of ["error", "load"]) {
  document.addEventListener(type, ({ target }) => {
    if (target.matches?.("#image img")) target.classList.toggle("no-preview", type === "error");
  }, true);
}
// Shows an answer only while its image is chosen. This runs in the browser because the server's
// updates may arrive late and would then remove a newer answer.
(() => {
  const chosenImage = () => {
    const url = document.querySelector("#url :is(input, textarea)")?.value.trim();
    const image = document.querySelector("#image img")?.src ?? "";
    return url || decodeURIComponent(image.split("/file=")[1] ?? "");
  };
  const update = () => {
    const image = chosenImage();
    for (const answer of document.querySelectorAll(".image-answer")) {
      answer.hidden = answer.getAttribute("cite") !== image;
    }
  };
  new MutationObserver(update).observe(document, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["src", "cite"],
  });
  document.addEventListener("input", update);
})();
