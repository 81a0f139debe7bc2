// What was explored: every interleaving of each system, and what must fail.

import { element, link, table, verdict } from "./elements.js";

/** The table of the systems. */
export function exploration(explored, replays) {
  return element("div", {},
    element("h1", {}, "Explored: every interleaving, up to a bound"),
    element("p", {}, "A system that must hold has been visited in every state. One that must fail has one thing broken, and fails by a shortest schedule."),
    table("Systems", ["system", "verdict", "as expected", { text: "states", figure: true }, { text: "transitions", figure: true },
      { text: "time", figure: true }, "schedule"],
    explored.systems.map((one) => [one.title, one.failure ? `fails: ${one.failure}` : "holds", verdict(one.as_expected, one.as_expected ? "yes" : "no"),
      one.states === null ? "" : one.states.toLocaleString("en"), one.transitions === null ? "" : one.transitions.toLocaleString("en"),
      one.seconds === null ? "" : `${one.seconds.toFixed(1)} s`,
      one.replay && replays.has(one.replay) ? link(one.schedule, "replay", one.replay) : one.schedule])));
}
