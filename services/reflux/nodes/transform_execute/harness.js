// Runs one script in a fresh context. It takes what it needs of the language before the script can change it,
// and is held by the host alone: the script cannot reach it.
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const { apply } = Reflect;
  const { then } = Promise.prototype;
  const { slice, toWellFormed } = String.prototype;
  const { toString } = Function.prototype;
  const text = String;
  const Body = (async function () {}).constructor;
  const MAX_LINES = 200;
  const MAX_LINE = 1000;

  // Without a prototype: a script can put a setter, or a toJSON, where an ordinary array would find it.
  const lines = Object.setPrototypeOf([], null);
  let dropped = 0;
  let outcome = "pending";
  let value;

  // Half a surrogate pair is no text to the host.
  const whole = (string) => apply(toWellFormed, string, []);
  const show = (item) => {
    if (typeof item === "string") return item;
    try {
      return stringify(item) ?? text(item);
    } catch {
      return text(item);
    }
  };
  const write = (...items) => {
    if (lines.length === MAX_LINES) {
      dropped += 1;
      return;
    }
    let line = "";
    for (let index = 0; index < items.length; index += 1) line += (index ? " " : "") + show(items[index]);
    if (line.length > MAX_LINE) line = apply(slice, line, [0, MAX_LINE]) + "…";
    lines[lines.length] = whole(line);
  };
  globalThis.console = { log: write, info: write, debug: write, warn: write, error: write };

  // An error as text the host can classify: name, message, stack. Anything may be thrown, getters included.
  const describe = (error) => {
    if (error === null) return { name: "", message: "null", stack: "" };
    try {
      const { name, message, stack } = Object(error);
      if (message === undefined) return { name: "", message: whole(show(error)), stack: "" };
      return { name: whole(text(name)), message: whole(text(message)), stack: whole(text(stack ?? "")) };
    } catch {
      return { name: "", message: "something that cannot be shown", stack: "" };
    }
  };

  const $start = (code, input) => {
    const body = new Body("input", code);
    // QuickJS pastes the text together before it parses: a script could close the function and open another.
    if (apply(toString, body, []) !== `async function anonymous(input\n) {\n${code}\n}`) {
      throw new SyntaxError("the script closes a bracket that it did not open");
    }
    apply(then, body(parse(input)), [
      (result) => {
        outcome = "done";
        value = result;
      },
      (error) => {
        outcome = "threw";
        value = describe(error);
      },
    ]);
  };
  const logs = () => {
    if (dropped) lines[lines.length] = `… ${dropped} more`;
    return stringify(lines);
  };

  return (what, code, input) => {
    if (what === "start") return $start(code, input);
    if (what === "outcome") return outcome;
    if (what === "logs") return logs();
    return stringify(value) ?? "null";
  };
})();
