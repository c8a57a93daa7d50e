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
    if (rows.length > SHOWN) show()
  })
}

// Of many runs some rows are shown: the first of those that have all words of the filter.
const SHOWN = 100, rows = document.querySelector("#runs tbody")?.rows ?? []
let most = SHOWN
function show() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean)
  let count = 0
  for (const row of rows) {
    row.words ??= row.textContent.toLowerCase()
    row.hidden = !words.every((word) => row.words.includes(word)) || ++count > most
  }
  document.getElementById("count").textContent = `${Math.min(most, count)} of ${count} runs`
  document.getElementById("more").hidden = count <= most
}
if (rows.length > SHOWN) {
  document.getElementById("tools").hidden = false
  document.getElementById("filter").addEventListener("input", () => { most = SHOWN; show() })
  document.getElementById("more").addEventListener("click", () => { most += SHOWN; show() })
  show()
}

const marked = new Map()
for (const one of document.querySelectorAll("[data-run]")) {
  if (!marked.has(one.dataset.run)) marked.set(one.dataset.run, [])
  marked.get(one.dataset.run).push(one)
}
let chosen = null
function choose(label) {
  document.body.classList.toggle("choosing", label !== null)
  for (const one of marked.get(chosen) ?? []) one.classList.remove("chosen")
  for (const one of marked.get(label) ?? []) one.classList.add("chosen")
  chosen = label
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
