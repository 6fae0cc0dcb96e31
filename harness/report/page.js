"use strict";
// The page without this script is whole but still: this filters and sorts its settings, draws its charts, and keeps
// what was chosen in the address, behind the "#": #setting-<key>&q=<words>&<axis>=<value>&<figure>.<control>=<value>
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const count = new Intl.NumberFormat("en").format;
  const settings = (number) => `${count(number)} setting${number === 1 ? "" : "s"}`;

  const rank = new Map(page.settings.map((setting, place) => [setting.key, place]));
  const rowOf = new Map(page.settings.map((setting) => [setting.key, document.getElementById(`setting-${setting.key}`)]));
  const texts = page.settings.map((setting) => setting.label.toLowerCase());

  // ---- what is chosen -------------------------------------------------------------------------------------------
  const state = { place: "", words: "", axes: page.axes.map(() => new Set()), controls: new Map() };
  let passing = page.settings.map((setting) => setting.key); // in order of rank

  const chosen = () => {
    const key = state.place.startsWith("setting-") ? state.place.slice("setting-".length) : null;
    return rank.has(key) ? key : null;
  };

  function read(fragment) {
    const [place, ...rest] = fragment.replace(/^#/, "").split("&");
    const given = new URLSearchParams(rest.join("&"));
    state.place = place;
    state.words = given.get("q") ?? "";
    state.axes = page.axes.map(({ name, values }) => {
      const wanted = given.getAll(name).map((value) => values.indexOf(value));
      return new Set(wanted.filter((value) => value >= 0));
    });
    state.controls = new Map([...given].filter(([name]) => controls.has(name)));
  }

  function write() {
    const given = new URLSearchParams();
    if (state.words) given.append("q", state.words);
    state.axes.forEach((values, axis) => {
      for (const value of values) given.append(page.axes[axis].name, page.axes[axis].values[value]);
    });
    for (const [name, value] of state.controls) given.append(name, value);
    const fragment = [state.place, ...(given.size ? [given.toString()] : [])].join("&");
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  }

  // ---- filter and table -----------------------------------------------------------------------------------------
  const table = $("#table");
  const body = table.tBodies[0];

  function passes(setting, place, words) {
    return (
      words.every((word) => texts[place].includes(word)) &&
      state.axes.every((values, axis) => !values.size || values.has(setting.axes[axis]))
    );
  }

  function filter() {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    passing = [];
    page.settings.forEach((setting, place) => {
      const shown = passes(setting, place, words);
      if (shown) passing.push(setting.key);
      rowOf.get(setting.key).hidden = !shown;
    });
    const all = page.settings.length;
    const filtered = Boolean(state.words) || state.axes.some((values) => values.size);
    $("#count").textContent = filtered ? `${count(passing.length)} of ${settings(all)}` : settings(all);
    $("#clear").hidden = !filtered;
    $("#none").hidden = passing.length > 0;
    drawings.forEach((drawing) => drawing.feed());
  }

  function sort(column, ascending) {
    const numeric = table.tHead.rows[0].cells[column].dataset.kind === "number";
    const valued = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const value = numeric ? cell.dataset.v : (cell.dataset.v ?? cell.textContent);
      return { row, value: value === undefined || value === "" ? null : numeric ? Number(value) : value };
    });
    const texts = new Intl.Collator("en", { numeric: true }).compare;
    valued.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return (ascending ? 1 : -1) * (numeric ? a.value - b.value : texts(a.value, b.value));
    });
    body.append(...valued.map(({ row }) => row));
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      if (place === column) cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
  }

  function headings() {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const text = cell.firstElementChild;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...text.childNodes);
      if (text.title) button.title = text.title;
      text.replaceWith(button);
      button.addEventListener("click", () => sort(column, cell.getAttribute("aria-sort") !== "ascending"));
    });
    table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
  }

  function fillIn() {
    $("#words").value = state.words;
    $$("details.axis").forEach((one) => {
      const values = state.axes[one.dataset.axis];
      $$("input", one).forEach((box) => (box.checked = values.has(Number(box.value))));
      name(one);
    });
    for (const [name, fields] of controls) {
      const value = state.controls.get(name) ?? fields.first;
      for (const field of fields.inputs) {
        if (field.type === "radio") field.checked = field.value === value;
        else field.value = value;
      }
    }
  }

  function name(details) {
    const { values } = page.axes[details.dataset.axis];
    const wanted = [...state.axes[details.dataset.axis]].sort((a, b) => a - b).map((value) => values[value]);
    $(".chosen-values", details).textContent = wanted.length > 3 ? `${wanted.length} values` : wanted.join(", ");
    details.classList.toggle("active", wanted.length > 0);
  }

  // ---- one setting ----------------------------------------------------------------------------------------------
  function choose(key, { scroll = false } = {}) {
    state.place = key === null ? "" : `setting-${key}`;
    write();
    highlight({ scroll });
  }

  function highlight({ scroll = false } = {}) {
    const key = chosen();
    $$("tr.chosen", body).forEach((row) => row.classList.remove("chosen"));
    if (key !== null) {
      const row = rowOf.get(key);
      row.classList.add("chosen");
      if (row.hidden) showAll();
      if (scroll) row.scrollIntoView({ block: "center" });
      else inBox(row);
    }
    drawings.forEach((drawing) => drawing.highlight());
  }

  // Scroll the table's own box alone: who chose a point in a chart goes on looking at the chart.
  function inBox(row) {
    const box = row.closest(".scroll");
    const [outer, inner] = [box.getBoundingClientRect(), row.getBoundingClientRect()];
    box.scrollTop += inner.top - outer.top - box.clientHeight / 2 + inner.height / 2;
  }

  function showAll() {
    state.words = "";
    state.axes.forEach((values) => values.clear());
    write();
    fillIn();
    filter();
  }

  // ---- charts ---------------------------------------------------------------------------------------------------
  // Rows come by columns, each column and each of its texts once; they are read when a chart first asks for them.
  const datasets = new Map();
  const columns = new Map();

  function cells(number) {
    if (!columns.has(number)) columns.set(number, JSON.parse($(`script[data-cells="${number}"]`).textContent));
    return columns.get(number);
  }

  // A function from a row's number to its value.
  function column([first, second]) {
    const values = cells(first);
    if (second === undefined) return (row) => values[row];
    const codes = cells(second);
    return (row) => values[codes[row]] ?? null;
  }

  function dataset(name) {
    if (!datasets.has(name)) {
      const element = $$("script[data-rows]").find((one) => one.dataset.rows === name);
      const table = JSON.parse(element.textContent);
      const read = Object.entries(table.columns).map(([name, parts]) => [name, column(parts)]);
      const key = table.columns.key ? column(table.columns.key) : null;
      const byKey = new Map();
      for (let row = 0; row < table.rows; row++) {
        const name = key === null ? null : key(row);
        const of = rank.has(name) ? name : null;
        if (!byKey.has(of)) byKey.set(of, []);
        byKey.get(of).push(row);
      }
      const object = (row) => Object.fromEntries(read.map(([name, value]) => [name, value(row)]));
      datasets.set(name, { byKey, object });
    }
    return datasets.get(name);
  }

  // The rows of these settings, in order of rank, and those that belong to none of the page; null: all rows.
  function rowsOf(name, keys, fields) {
    const { byKey, object } = dataset(name);
    const places = [null, ...(keys ?? rank.keys())].flatMap((key) => byKey.get(key) ?? []);
    const rows = places.map(object);
    return fields.length ? rows.filter((row) => fields.every(([field, value]) => !(field in row) || row[field] === value)) : rows;
  }

  // Every view of a specification that draws marks, with the specifications that it lies in.
  function* units(spec) {
    const inner = ["layer", "hconcat", "vconcat", "concat"].flatMap((kind) => spec[kind] ?? []);
    if (spec.spec) inner.push(spec.spec);
    if (spec.mark) yield spec;
    for (const one of inner) yield* units(one);
  }

  const dataNames = (spec) => [...new Set([...JSON.stringify(spec).matchAll(/"data":\{"name":"([^"]+)"/g)].map(([, name]) => name))];

  const coloursLabels = ({ encoding = {} }) => ["color", "fill", "stroke"].some((channel) => encoding[channel]?.field === "label");

  const DIMMED = 0.12;
  const PANEL = 72; // pixels beside the panel of a chart that has several: its axis and title

  // A setting keeps its colour while it is drawn, and all charts give it the same.
  const colours = page.theme.colours;
  const slots = new Map();

  function colourOf(key, drawn) {
    for (const other of slots.keys()) if (!drawn.has(other)) slots.delete(other);
    if (!slots.has(key)) {
      const taken = new Set(slots.values());
      let slot = 0;
      while (taken.has(slot)) slot++;
      slots.set(key, slot);
    }
    return colours[slots.get(key) % colours.length];
  }

  class Drawing {
    constructor(element) {
      this.element = element;
      this.id = element.dataset.figure;
      this.figure = page.figures[this.id];
      this.legend = $$("[data-legend]").find((one) => one.dataset.legend === this.id);
      this.told = $$("[data-drawn]").find((one) => one.dataset.drawn === this.id);
      this.save = $$("[data-save]").find((one) => one.dataset.save === this.id);
      this.save.addEventListener("click", () => this.saveAs());
      this.view = null;
      this.turn = 0;
    }

    get keys() {
      if (this.figure.most === null) return null;
      const drawn = passing.slice(0, this.figure.most);
      const key = chosen();
      return key === null || drawn.includes(key) || !passing.includes(key) ? drawn : [...drawn, key];
    }

    control({ name }) {
      const full = `${this.id}.${name}`;
      return state.controls.get(full) ?? controls.get(full).first;
    }

    get spec() {
      const values = this.figure.controls.filter((one) => !one.field).map((one) => this.control(one));
      return this.figure.specs[values.join(" ")];
    }

    get rows() {
      const fields = this.figure.controls.filter((one) => one.field).map((one) => [one.field, this.control(one)]);
      return this.names.map((name) => [name, rowsOf(name, this.keys, fields)]);
    }

    async draw() {
      const turn = ++this.turn;
      const spec = structuredClone(this.spec);
      this.names = dataNames(spec);
      this.coloured = this.figure.most !== null && [...units(spec)].some(coloursLabels);
      // A chart whose rows are settings names them itself.
      this.listed = this.coloured && ![...units(spec)].some(({ encoding }) => encoding?.y?.field === "label");
      spec.datasets = Object.fromEntries(this.rows);
      spec.params = [...(spec.params ?? []), { name: "chosen", value: chosen() }];
      // The page says what a chart's title would, and where settings have their colours, chooses them itself.
      this.subtitle = spec.title?.subtitle ?? "";
      delete spec.title;
      spec.description ??= this.figure.title;
      if (this.coloured) {
        for (const part of [spec, ...units(spec)]) part.params = (part.params ?? []).filter((param) => !param.select);
        for (const unit of units(spec)) this.prepare(unit);
      }
      // Cells of a grid are as wide as there is room for them.
      if (spec.width?.step) {
        const across = new Set(spec.datasets[this.names[0]].map(({ x }) => x)).size;
        spec.width.step = Math.max(34, Math.min(spec.width.step, (this.element.clientWidth - PANEL * 1.5) / across));
      }
      // Vega-Lite warns of a width that fits beside a height that is that of the rows, so that is told it in pixels.
      this.listing = spec.width === "container" && Boolean(spec.height?.step);
      if (this.listing) {
        const field = [...units(spec)].map(({ encoding }) => encoding?.y?.field).find(Boolean);
        const names = new Set(Object.values(spec.datasets).flat().map((row) => row[field]).filter((name) => name !== undefined));
        spec.height = spec.height.step * Math.max(1, names.size);
      }
      const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, logLevel: 1 }; // errors alone
      options.tooltip = { disableDefaultStyle: true, theme: "page" };
      options.patch = (compiled) => this.patch(compiled);
      // Vega-Lite knows the width of its container only for a view of its own.
      for (const panel of spec.vconcat ?? []) if (panel.width === "container") panel.width = this.element.clientWidth - PANEL;
      const axis = { ...page.theme.config.axis, labelLimit: Math.min(240, this.element.clientWidth * 0.35) };
      options.config = { ...page.theme.config, axis };
      const target = document.createElement("div");
      this.element.append(target);
      const { view, finalize } = await vegaEmbed(target, spec, options);
      if (turn !== this.turn) {
        // Another choice was made meanwhile, and is being drawn.
        finalize();
        target.remove();
        return;
      }
      this.finalize?.();
      [this.view, this.finalize] = [view, finalize];
      view.addEventListener("click", (event, item) => this.click(item));
      for (const child of [...this.element.children]) if (child !== target) child.remove();
      this.save.hidden = false;
      this.tell();
    }

    // Marks of other settings fade while one is chosen; the page's own legend stands for Vega's.
    prepare(unit) {
      if (typeof unit.mark === "string") unit.mark = { type: unit.mark };
      unit.encoding ??= {};
      const declared = unit.encoding.opacity;
      const [given] = [declared?.condition ?? []].flat();
      const usual = given?.param ? given.value : declared ? null : (unit.mark.opacity ?? 1);
      if (usual !== null) {
        const test = "chosen !== null && isValid(datum.key) && datum.key !== chosen";
        unit.encoding.opacity = { condition: { test, value: DIMMED * usual }, value: usual };
      }
      for (const channel of ["color", "fill", "stroke"]) {
        if (unit.encoding[channel]?.field === "label") unit.encoding[channel].legend = null;
      }
    }

    // The colours of labels follow the page, not the order in which the labels appear.
    patch(compiled) {
      if (!this.coloured) return compiled;
      const scales = (compiled.scales ?? []).filter(({ name }) => ["color", "fill", "stroke"].includes(name));
      for (const scale of scales.filter((scale) => /"field":"label"/.test(JSON.stringify(scale.domain)))) {
        scale.domain = { signal: "labels" };
        scale.range = { signal: "colours" };
      }
      const [labels, values] = this.palette;
      compiled.signals = [...(compiled.signals ?? []), { name: "labels", value: labels }, { name: "colours", value: values }];
      return compiled;
    }

    get palette() {
      const drawn = new Set(drawings.flatMap((drawing) => (drawing.coloured ? drawing.keys : [])));
      const keys = this.keys ?? [];
      return [keys.map((key) => page.settings[rank.get(key)].label), keys.map((key) => colourOf(key, drawn))];
    }

    feed() {
      if (!this.view) return;
      if (this.listing) return void this.draw(); // as many rows as settings
      if (this.coloured) {
        const [labels, values] = this.palette;
        this.view.signal("labels", labels).signal("colours", values);
      }
      for (const [name, rows] of this.rows) this.view.data(name, rows);
      this.view.runAsync();
      this.tell();
    }

    highlight() {
      if (!this.view) return;
      this.view.signal("chosen", chosen());
      this.feed();
    }

    tell() {
      const [drawn, all] = [this.keys?.length ?? 0, passing.length];
      const some = this.keys && drawn < all ? `${count(drawn)} of ${settings(all)} drawn, the first by rank` : "";
      this.told.textContent = [this.subtitle, some].filter(Boolean).join("; ");
      if (!this.listed) return this.legend.replaceChildren();
      const [labels, values] = this.palette;
      const focused = this.legend.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      this.legend.replaceChildren(...this.keys.map((key, place) => entry(key, labels[place], values[place])));
      [...this.legend.children].find((button) => button.dataset.key === focused)?.focus();
    }

    click(item) {
      const key = item?.datum?.key;
      if (rank.has(key)) choose(key === chosen() ? null : key);
    }

    saveAs() {
      const svg = $("svg", this.element).cloneNode(true);
      svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement("span");
      document.body.append(probe);
      const text = svg.outerHTML.replace(/var\((--[\w-]+)\)/g, (_, variable) => {
        probe.style.color = style.getPropertyValue(variable);
        return getComputedStyle(probe).color;
      });
      probe.remove();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
      link.download = `${this.id}.svg`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }
  }

  function entry(key, label, colour) {
    const button = document.createElement("button");
    const swatch = document.createElement("span");
    button.type = "button";
    swatch.className = "swatch";
    swatch.style.background = colour;
    button.append(swatch, label);
    button.dataset.key = key;
    button.setAttribute("aria-pressed", String(key === chosen()));
    button.addEventListener("click", () => choose(key === chosen() ? null : key));
    return button;
  }

  // ---- wiring ---------------------------------------------------------------------------------------------------
  const controls = new Map();
  for (const input of $$(".controls input, .controls select")) {
    if (!controls.has(input.name)) controls.set(input.name, { first: input.value, inputs: [] });
    controls.get(input.name).inputs.push(input);
    input.addEventListener("change", () => {
      state.controls.set(input.name, input.value);
      write();
      drawings.find((drawing) => input.name.startsWith(`${drawing.id}.`))?.draw();
    });
  }
  const drawings = $$("[data-figure]").map((element) => new Drawing(element));

  // Charts near the view come first; the others follow while nothing else is to be done, so that printing has them.
  function watch() {
    const waiting = new Set(drawings);
    const draw = async (drawing) => {
      if (!waiting.delete(drawing)) return;
      try {
        await drawing.draw();
      } catch (error) {
        $(".waiting", drawing.element).textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
    };
    const seen = new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(drawings.find((one) => one.element === entry.target))),
      { rootMargin: "400px" },
    );
    drawings.forEach((drawing) => seen.observe(drawing.element));
    const later = window.requestIdleCallback ?? ((call) => setTimeout(call, 50));
    const next = async () => {
      const [drawing] = waiting;
      if (!drawing) return;
      await draw(drawing);
      later(next);
    };
    setTimeout(() => later(next), 1000);
  }

  let typing;
  $("#words").addEventListener("input", (event) => {
    state.words = event.target.value.trim();
    clearTimeout(typing);
    typing = setTimeout(() => (write(), filter()), 150);
  });
  $("#filter").addEventListener("submit", (event) => event.preventDefault());
  $("#clear").addEventListener("click", showAll);
  for (const details of $$("details.axis")) {
    details.addEventListener("change", (event) => {
      const values = state.axes[details.dataset.axis];
      if (event.target.checked) values.add(Number(event.target.value));
      else values.delete(Number(event.target.value));
      name(details);
      write();
      filter();
    });
  }
  for (const left of ["click", "focusin"]) {
    document.addEventListener(left, (event) => {
      for (const details of $$("details.axis[open]")) if (!details.contains(event.target)) details.open = false;
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = $("details.axis[open]");
    if (open) {
      open.open = false;
      $("summary", open).focus();
    } else if (chosen() !== null) choose(null);
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (event.target.closest("a") || getSelection().toString()) return;
    const key = row.id.slice("setting-".length);
    choose(key === chosen() ? null : key);
  });
  // A link within the page changes the place alone, and keeps the filter.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    event.preventDefault();
    state.place = decodeURIComponent(link.getAttribute("href").slice(1));
    write();
    const target = document.getElementById(state.place);
    if (chosen() === null) target?.scrollIntoView();
    if (link.classList.contains("skip")) target?.focus();
    highlight({ scroll: chosen() !== null });
  });

  const themes = { auto: "as the system has them", light: "light", dark: "dark" };
  function theme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    $("#theme").setAttribute("aria-label", `Colours: ${themes[name]}`);
    $("#theme .word").textContent = name;
  }
  $("#theme").addEventListener("click", () => {
    const names = Object.keys(themes);
    theme(names[(names.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % names.length]);
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = $$("details:not([open]):not(.axis)");
    closed.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((details) => (details.open = false)));

  function show() {
    read(location.hash);
    fillIn();
    filter();
    highlight({ scroll: true });
    if (chosen() === null && state.place) document.getElementById(state.place)?.scrollIntoView();
  }

  document.documentElement.classList.remove("no-script");
  headings();
  show();
  addEventListener("hashchange", () => {
    const drawn = new Map(state.controls);
    show();
    for (const drawing of drawings) {
      const own = (controls) => JSON.stringify([...controls].filter(([name]) => name.startsWith(`${drawing.id}.`)));
      if (drawing.view && own(drawn) !== own(state.controls)) drawing.draw();
    }
  });
  watch();
})();
