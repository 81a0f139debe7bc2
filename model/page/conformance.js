// A port: which checks it passed; of a failure the smallest case, drawn, and a program that repeats it.

import { letters } from "./bits.js";
import { element, table, verdict } from "./elements.js";

function failure(check) {
  const copied = element("span", { role: "status" });
  const program = check.program ? element("pre", { tabindex: 0 }, check.program) : null;
  function copy() {
    getSelection().selectAllChildren(program);
    copied.textContent = document.execCommand("copy") ? " copied" : " selected: copy it with Ctrl-C";
  }
  return element("section", {},
    element("h2", {}, check.name),
    element("ul", {}, check.broken.map(({ rule, detail }) => element("li", {}, element("strong", {}, rule), `: ${detail}`))),
    check.rule ? element("p", {}, `The rule: ${check.rule}.`) : null,
    check.note ? element("p", {}, check.note) : null,
    check.picture ? [
      element("h3", {}, "The smallest case found"),
      element("ul", {}, check.picture.head.map((line) => element("li", {}, line))),
      letters(check.picture.words),
      element("p", { class: "quiet" }, check.picture.key)] : null,
    program ? [element("h3", {}, "To repeat it"),
      element("p", {}, element("button", { type: "button", onclick: copy }, "Copy the program"), copied), program] : null);
}

/** The view of one port. */
export function conformance(report) {
  const run = report.checks.filter((check) => !check.not_run);
  const failed = run.filter((check) => !check.passed);
  return element("div", {},
    element("h1", {}, "Conformance"),
    element("p", {}, report.subject, ": ", failed.length
      ? verdict(false, `${failed.length} of ${run.length} checks run failed`) : verdict(true, `all ${run.length} checks run passed`)),
    failed.map(failure),
    element("h2", {}, "All checks"),
    table("Checks", ["check", "verdict", { text: "cases", figure: true }, { text: "time", figure: true }],
      report.checks.map((check) => [check.name, check.not_run ? `not run: ${check.not_run}` : verdict(check.passed, check.passed ? "passed" : check.broken.map((one) => one.rule).join(", ")),
        check.passed ? check.cases.toLocaleString("en") : "", `${check.seconds.toFixed(2)} s`])));
}
