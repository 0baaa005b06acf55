// The page behind an approval's link. The token stands in the fragment of the address, which a browser sends to
// nobody; here it leaves in the bodies of two calls alone. Whatever a flow or a person wrote is shown by
// textContent. The form becomes JSON text field by field, so that a large number keeps its digits. The server
// judges everything: what is checked here only saves a way.
"use strict";

const $ = (id) => document.getElementById(id);
const CALL_MS = 30_000;
const GONE = "What this link asks about is not kept any more.";
const REFUSED = {
  APPROVAL_TOKEN_INVALID: "This link is not valid. Perhaps it was cut off when it was copied: ask for it again.",
  RUN_NOT_FOUND: GONE,
  STEP_NOT_FOUND: GONE,
  APPROVAL_ANSWERED: "Your answer does not count: somebody was faster.",
  REQUEST_ID_REUSED: "Your first answer had arrived: it is the one that counts.",
  RUN_FINISHED: "Your answer came too late: the run has ended.",
  STEP_NOT_WAITING: "Your answer came too late: it is not asked any more.",
};
const OVER = {
  SUCCEEDED: "The flow has gone on without an answer here.",
  FAILED: "It is not asked any more: the time is over, or the step has failed.",
  SKIPPED: "It is not asked any more: the step was skipped.",
  CANCELED: "It is not asked any more: the run goes on, or has ended, without it.",
};
let token = "";
let requestId = ""; // of this page and token: whatever is sent twice counts once
let fields = [];
let sending = false;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter(Boolean)); // texts become text nodes
  return element;
}

// --- The two calls ---------------------------------------------------------------------------------------------

class Failure extends Error {
  constructor(status, answer) {
    const details = Array.isArray(answer?.details) ? answer.details : [];
    const reason = details.find((each) => each.reason)?.reason ?? "";
    super(REFUSED[reason] ?? (status ? answer?.message || `The server answers with an error (${status}).` : ""));
    this.reason = reason;
    this.violations = details.flatMap((each) => each.field_violations ?? []);
    this.unheard = !status || status >= 500; // nobody knows whether it arrived
  }
}

async function call(verb, body) {
  let response;
  try {
    const headers = { "Content-Type": "application/json" };
    const signal = AbortSignal.timeout(CALL_MS);
    response = await fetch(`api/approvals:${verb}`, { method: "POST", headers, body, signal, cache: "no-store" });
    const answer = await response.json();
    if (response.ok) return answer;
    throw new Failure(response.status, answer);
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(response && !response.ok ? response.status : 0);
  }
}

// --- What is shown ---------------------------------------------------------------------------------------------

function say(title, { notice = "", list = [], again = false, form = false } = {}) {
  document.title = $("title").textContent = title;
  $("notice").replaceChildren(notice, list.length ? make("ul", {}, ...list.map((each) => make("li", {}, each))) : "");
  $("notice").hidden = !notice;
  $("again").hidden = !again;
  $("answer").hidden = !form;
  if (notice) $("notice").scrollIntoView({ block: "nearest" }); // the buttons are far below
  $("until").hidden ||= !form;
}

function when(time) {
  const text = new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return make("time", { dateTime: time }, text);
}

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value);
  $("facts").replaceChildren(...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  $("facts").hidden = false;
}

function show(shown, notice = "") {
  const { flow_name: flow, step, state, run_id: run, run_state: runState, approval: asked } = shown;
  const answered = asked?.answered_by ? (asked.approved ? "Approved" : "Rejected") : "";
  const by = (asked?.answered_by ?? "").replace(/^token: (.*)$/s, "$1, by this link");
  $("message").textContent = asked?.message ?? "";
  $("message").hidden = !asked?.message;
  facts([
    ["Answer", answered],
    ["By", by === "token" ? "somebody, by this link" : by],
    ["On", answered && asked.answer_time && when(asked.answer_time)],
    ["Comment", answered && asked.comment],
    ["Flow", flow],
    ["Step", step],
    ["Run", run],
    ["Asked", asked?.who.join(", ")],
  ]);
  const ended = ["SUCCEEDED", "FAILED", "CANCELED"].includes(runState);
  const over = OVER[state] ?? (ended ? OVER.CANCELED : "");
  if (answered) return say(`${answered}: ${flow}`, { notice });
  if (over) return say(`Not asked any more: ${flow}`, { notice: notice || over });
  const early = "The flow has not come this far. Look again later.";
  if (!asked) return say(`Not asked yet: ${flow}`, { notice: early, again: true });
  if (!fields.length) draw(asked.form);
  $("until").replaceChildren(...(asked.until ? ["Please answer until ", when(asked.until), "."] : []));
  $("until").hidden = !asked.until;
  const paused = runState === "PAUSED" ? "The run is paused. Your answer is kept until it goes on." : "";
  return say(`${flow} asks for your approval`, { notice: notice || paused, form: true });
}

async function load(notice = "") {
  const given = location.hash.slice(1);
  if (given !== token || !requestId) {
    token = given;
    requestId = crypto.getRandomValues(new Uint32Array(4)).join("-"); // randomUUID is not there over plain HTTP
    fields = [];
    $("message").hidden = $("facts").hidden = true;
    $("answer").reset();
  }
  const cut = "This link is not complete: the part after # is missing. Ask for it again.";
  if (!token) return say("Approval", { notice: cut });
  say("Approval");
  $("progress").textContent = "Loading…";
  try {
    const shown = await call("show", JSON.stringify({ token: given }));
    if (given === token) show(shown, notice);
  } catch (error) {
    const unheard = "The server cannot be reached, or cannot answer now. Try again in a moment.";
    say("Approval", { notice: error.unheard ? unheard : error.message, again: error.unheard });
  }
  $("progress").textContent = "";
}

// --- The form --------------------------------------------------------------------------------------------------

const unescaped = (key) => key.replaceAll("~1", "/").replaceAll("~0", "~"); // of a JSON pointer

function resolved(schema, root) {
  for (let left = 10; left && String(schema?.$ref).startsWith("#"); left -= 1) {
    const { $ref, ...beside } = schema;
    const keys = $ref.split("/").slice(1).map((key) => unescaped(decodeURIComponent(key)));
    schema = { ...keys.reduce((at, key) => at[key], root), ...beside };
  }
  return schema;
}

function choices(schema) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => [value, text(value)]);
  if (schema.const !== undefined) return [[schema.const, text(schema.const)]];
  if (!schema.oneOf?.every((each) => each && "const" in each)) return null;
  return schema.oneOf.map((each) => [each.const, each.title ?? text(each.const)]);
}

// [the control, what gives its JSON text: undefined when nothing is filled in]
function control(schema, required) {
  const [type, ...others] = [schema.type].flat().filter((each) => each !== "null");
  const among = choices(schema);
  const start = schema.default;
  if (among) {
    const select = make("select", { required }, make("option", { value: "" }, required ? "Choose…" : "–"));
    among.forEach(([value, text], at) => {
      const selected = start !== undefined && JSON.stringify(value) === JSON.stringify(start);
      select.append(make("option", { value: String(at), defaultSelected: selected }, text));
    });
    return [select, () => (select.value ? JSON.stringify(among[Number(select.value)][0]) : undefined)];
  }
  if (type === "boolean" && !others.length) {
    const box = make("input", { type: "checkbox", defaultChecked: start === true });
    return [box, () => String(box.checked)];
  }
  if ((type === "integer" || type === "number") && !others.length) {
    const whole = type === "integer";
    const low = schema.minimum ?? (whole ? schema.exclusiveMinimum + 1 : NaN);
    const high = schema.maximum ?? (whole ? schema.exclusiveMaximum - 1 : NaN);
    const input = make("input", { type: "number", step: whole ? "1" : "any", required, defaultValue: start ?? "" });
    if (!Number.isNaN(low)) input.min = low; // else an open bound of a fraction: the server knows
    if (!Number.isNaN(high)) input.max = high;
    const json = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
    const text = () => (json.test(input.value) ? input.value : String(Number(input.value)));
    return [input, () => (input.value ? text() : undefined)];
  }
  if (type === "string" && !others.length) {
    const long = schema.maxLength > 200 || String(start ?? "").includes("\n");
    const kind = { date: "date", email: "email" }[schema.format] ?? "text";
    const input = long ? make("textarea", { rows: 4, required }) : make("input", { type: kind, required });
    if (schema.maxLength >= 0) input.maxLength = Math.min(schema.maxLength, 65_536);
    if (schema.minLength > 0) input.minLength = Math.min(schema.minLength, schema.maxLength ?? 65_536);
    input.defaultValue = start ?? "";
    return [input, () => (input.value ? JSON.stringify(input.value) : undefined)];
  }
  const area = make("textarea", { rows: 4, className: "json", spellcheck: false, required });
  area.defaultValue = start === undefined ? "" : JSON.stringify(start, null, 2);
  return [area, () => (area.value.trim() ? (JSON.parse(area.value), area.value) : undefined)];
}

// `name` is null when the field is the whole form.
function field(name, schema, required) {
  const [input, read] = control(schema, required);
  const id = `field-${fields.length}`;
  const json = input.className === "json" ? "Written as JSON." : "";
  const hint = make("p", { className: "hint", id: `${id}-hint` }, [schema.description, json].filter(Boolean).join(" "));
  const error = make("p", { className: "error", id: `${id}-error`, hidden: true });
  const must = required && input.type !== "checkbox" && make("span", { className: "must" }, " required");
  const label = make("label", { htmlFor: id }, schema.title || name || "Answer", must);
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const order = input.type === "checkbox" ? [input, label, hint, error] : [label, hint, input, error];
  hint.hidden = !hint.textContent;
  fields.push({ name, input, read, error });
  $("fields").append(make("div", { className: input.type === "checkbox" ? "field check" : "field" }, ...order));
}

const UNTOLD = ["$schema", "$id", "type", "title", "description"]; // of a schema that asks for nothing

function draw(form) {
  const clear = () => {
    fields = [];
    $("fields").replaceChildren();
  };
  clear();
  try {
    const schema = resolved(form, form) ?? true;
    const names = Object.keys(schema.properties ?? {});
    const must = schema.required ?? [];
    const told = Object.keys(schema).some((key) => !UNTOLD.includes(key) && typeof schema[key] !== "boolean");
    const whole = (schema.type ?? "object") !== "object" || (told && !names.length);
    if (!whole && schema.title) $("fields").append(make("h2", {}, schema.title));
    if (!whole && schema.description) $("fields").append(make("p", { className: "lead" }, schema.description));
    if (whole) field(null, schema, true);
    for (const name of whole ? [] : new Set([...names, ...must])) {
      field(name, resolved(schema.properties[name] ?? {}, form), must.includes(name));
    }
  } catch { // a schema that is made in a way not thought of here
    clear();
    field(null, {}, true);
  }
  $("rejecting").hidden = !fields.length;
}

function mark(each, text) {
  each.error.textContent = text;
  each.error.hidden = !text;
  each.input.setAttribute("aria-invalid", String(Boolean(text)));
}

// The form as JSON text; null when something is wrong, which is shown where it is.
function filled() {
  const parts = [];
  let wrong = false;
  for (const each of fields) {
    let text;
    mark(each, each.input.validationMessage);
    if (each.input.validity.valid) {
      try {
        text = each.read();
      } catch (error) {
        mark(each, `This is not JSON: ${error.message}`);
      }
    }
    if (!each.error.hidden) wrong = true;
    else if (text !== undefined) parts.push(each.name === null ? text : `${JSON.stringify(each.name)}:${text}`);
  }
  if (wrong) return null;
  return fields[0]?.name === null ? parts[0] : `{${parts.join(",")}}`;
}

// What the server says is wrong, at its field; the rest is returned, for the notice.
function place(violations) {
  const others = [];
  for (const { field: at, description } of violations) {
    const missing = /^'(.*)' is a required property$/.exec(description)?.[1];
    const [, top, key, ...inside] = at.split("/").map(unescaped);
    const name = key ?? missing;
    const found = top === "form" && fields.find((each) => each.name === name || each.name === null);
    const text = inside.length ? `${inside.join("/")}: ${description}` : description;
    if (found) mark(found, [found.error.textContent, text].filter(Boolean).join("; "));
    else others.push(description);
  }
  return others;
}

function lookAgain(title, list = []) {
  say(title, { notice: "Something is missing or does not fit. Look at the marked fields.", list, form: true });
  fields.find((each) => !each.error.hidden)?.input.focus();
}

// --- The answer ------------------------------------------------------------------------------------------------

function busy(now) {
  sending = now; // the buttons stay enabled, so that the keyboard does not lose its place
  for (const each of ["approve", "reject"]) $(each).setAttribute("aria-disabled", String(now));
}

async function answer(approved) {
  if (sending) return;
  fields.forEach((each) => mark(each, ""));
  const form = approved && fields.length ? filled() : undefined;
  const title = $("title").textContent;
  if (form === null) return lookAgain(title);
  const [by, comment] = [$("by").value.trim(), $("comment").value.trim()];
  const said = JSON.stringify({ token, approved, by, comment, request_id: requestId });
  busy(true);
  $("notice").hidden = true;
  $("progress").textContent = "Sending your answer…";
  try {
    show(await call("answer", form ? `${said.slice(0, -1)},"form":${form}}` : said));
    $("title").focus();
  } catch (error) {
    const unknown = "It is not known whether your answer arrived. Press the same button again: it counts once.";
    if (error.violations?.length) lookAgain(title, place(error.violations));
    else if (error.unheard) say(title, { notice: unknown, form: true });
    else await load(error.message).then(() => $("title").focus());
  } finally {
    $("progress").textContent = "";
    busy(false);
  }
}

$("approve").addEventListener("click", () => answer(true));
$("reject").addEventListener("click", () => answer(false));
$("again").addEventListener("click", () => load());
$("answer").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => load());
load();
