// Copy buttons beside texts, and images pasted with the keyboard anywhere on the page. Both also work
// without HTTPS, where browsers hide `navigator.clipboard`.
(() => {
  const copy = async (text) => {
    if (navigator.clipboard) {
      return navigator.clipboard.writeText(text);
    }
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (button) {
      await copy(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    }
  });

  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    const images = [...files].filter((file) => file.type.startsWith("image/"));
    const isText = types.includes("text/plain") && event.target.closest("input, textarea");
    if (!images.length || isText) {
      return;
    }
    event.preventDefault();
    const isBatch = document.querySelector("#batch-images").offsetParent !== null;
    const pasted = new DataTransfer();
    images.slice(0, isBatch ? images.length : 1).forEach((file) => pasted.items.add(file));
    const input = document.querySelector(`${isBatch ? "#files" : "#image"} input[type=file]`);
    input.files = pasted.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
})();
