"use strict"
const root = document.documentElement
function keep(theme) { try { localStorage.setItem("runner-report-theme", theme) } catch { /* a file may keep nothing */ } }
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"
  keep(root.dataset.theme)
})

for (const button of document.querySelectorAll("#runs thead button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, column = heading.cellIndex
    const descending = heading.getAttribute("aria-sort") !== "descending"
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort")
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending")
    const body = document.querySelector("#runs tbody")
    const value = (row) => row.cells[column]?.dataset.value ?? ""
    const sorted = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)]
      if (a === "" || b === "") return (a === "") - (b === "")
      return (descending ? -1 : 1) * (a - b)
    })
    body.append(...sorted)
  })
}

function choose(label) {
  document.body.classList.toggle("choosing", label !== null)
  for (const one of document.querySelectorAll("[data-run]")) one.classList.toggle("chosen", one.dataset.run === label)
}
for (const one of document.querySelectorAll("[data-run]")) {
  one.addEventListener("pointerenter", () => choose(one.dataset.run))
  one.addEventListener("pointerleave", () => choose(null))
}

for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code")
    const range = document.createRange()
    range.selectNodeContents(code)
    const selection = getSelection()
    selection.removeAllRanges()
    selection.addRange(range)
    try { await navigator.clipboard.writeText(code.textContent) } catch { document.execCommand("copy") }
    button.textContent = "copied"
    setTimeout(() => { button.textContent = "copy" }, 1500)
  })
}
