"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const SVG = "http://www.w3.org/2000/svg";
  const CLASSES = ["one", "two"];

  // ---- words and numbers
  const grouped = (value, digits = 0) =>
    value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const time = (us) =>
    us >= 1e6 ? grouped(us / 1e6, 2) + " s" : us >= 1e4 ? grouped(us / 1e3, 1) + " ms"
      : us >= 1e3 ? grouped(us / 1e3, 2) + " ms" : grouped(us, us < 100 ? 1 : 0) + " µs";
  const tick = (us) => (us >= 1e6 ? us / 1e6 + " s" : us >= 1e3 ? us / 1e3 + " ms" : us + " µs");
  const percent = (q) => {
    const nines = Math.max(0, Math.ceil(-Math.log10(1 - q) - 2 + 0.3));
    return (q * 100).toFixed(Math.min(nines, 6)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") + "%";
  };
  const short = (value) => (value >= 1e6 ? value / 1e6 + "M" : value >= 1e3 ? value / 1e3 + "k" : String(value));

  // ---- drawing
  const make = (name, attributes, parent, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const log = (from, to, low, high) => {
    const a = Math.log10(from), b = Math.log10(to);
    return (value) => low + ((Math.log10(Math.max(value, from)) - a) / (b - a)) * (high - low);
  };
  const linear = (from, to, low, high) => (value) => low + ((value - from) / (to - from || 1)) * (high - low);
  const decades = (from, to) => {
    const steps = [];
    const dense = Math.log10(to / from) < 2.2;
    for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power++)
      for (const factor of dense ? [1, 2, 5] : [1]) {
        const step = Number((factor * 10 ** power).toPrecision(1));
        if (step >= from * 0.999 && step <= to * 1.001) steps.push(step);
      }
    return steps;
  };
  const around = (values) => {
    const low = Math.min(...values), high = Math.max(...values);
    const down = (v) => { const p = 10 ** Math.floor(Math.log10(v)); return p * [5, 2, 1].find((f) => v >= p * f); };
    const up = (v) => { const p = 10 ** Math.floor(Math.log10(v)); return p * [1, 2, 5, 10].find((f) => v <= p * f * 1.0001); };
    return [down(Math.max(low, 0.001)), Math.max(up(high), down(low) * 10)];
  };
  const nice = (most, count) => {
    const raw = most / count, power = 10 ** Math.floor(Math.log10(raw || 1));
    return power * [1, 2, 5, 10].find((factor) => raw <= power * factor * 1.0001);
  };

  const renders = [];
  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => { tip.hidden = true; renders.forEach((render) => render()); });
  });

  /// A frame with axes. `draw` fills it; `at` answers a place on the x axis with what is there.
  const chart = (id, spec) => {
    const box = document.getElementById(id);
    const render = () => {
      const width = Math.max(260, Math.floor(box.clientWidth));
      const height = Math.round(Math.min(spec.height, Math.max(280, width * 0.72)));
      const narrow = width < 520;
      const inner = { left: spec.left ?? 58, right: width - (spec.right ?? 14), top: 14, bottom: height - 42 };
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": spec.describe });
      make("title", {}, svg, spec.title);
      const x = spec.x.scale(inner.left, inner.right), y = spec.y.scale(inner.bottom, inner.top);
      spec.below?.(svg, x, y, inner, narrow);
      for (const value of spec.y.ticks) {
        make("line", { class: "grid", x1: inner.left, x2: inner.right, y1: y(value), y2: y(value) }, svg);
        make("text", { x: inner.left - 8, y: y(value) + 4, "text-anchor": "end" }, svg, spec.y.text(value));
      }
      make("line", { class: "axis", x1: inner.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom }, svg);
      let free = -Infinity;
      for (const value of spec.x.ticks(narrow)) {
        const text = spec.x.text(value), half = text.length * 3.5;
        if (spec.x.grid) make("line", { class: "grid", x1: x(value), x2: x(value), y1: inner.top, y2: inner.bottom }, svg);
        if (x(value) - half < free) continue;
        free = x(value) + half + 6;
        const anchor = x(value) + half > width ? "end" : "middle";
        make("text", { x: anchor === "end" ? width : x(value), y: inner.bottom + 18, "text-anchor": anchor }, svg, text);
      }
      make("text", { x: (inner.left + inner.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, spec.x.label);
      spec.draw(svg, x, y, inner, narrow);
      if (spec.at) hover(svg, spec, x, y, inner, width);
      box.replaceChildren(svg);
    };
    renders.push(render);
    render();
  };

  const hover = (svg, spec, x, y, inner, width) => {
    const marks = make("g", {}, svg);
    const show = (index) => {
      const found = spec.at(index);
      if (!found) return hide();
      marks.replaceChildren();
      const left = x(found.x);
      make("line", { class: "guide", x1: left, x2: left, y1: inner.top, y2: inner.bottom }, marks);
      for (const dot of found.dots ?? []) make("circle", { class: "dot " + dot.class, cx: left, cy: y(dot.y), r: 5 }, marks);
      const head = document.createElement("b");
      head.textContent = found.title;
      const table = document.createElement("table");
      for (const [name, value] of found.rows) {
        const row = table.insertRow(), th = document.createElement("th");
        th.textContent = name;
        row.append(th);
        row.insertCell().textContent = value;
      }
      tip.replaceChildren(head, table);
      tip.hidden = false;
      const box = svg.getBoundingClientRect(), scale = box.width / width;
      const at = box.left + left * scale, room = document.documentElement.clientWidth;
      const place = at + 16 + tip.offsetWidth < room ? at + 16 : Math.max(4, at - 16 - tip.offsetWidth);
      tip.style.left = place + window.scrollX + "px";
      tip.style.top = box.top + window.scrollY + inner.top + 8 + "px";
    };
    const hide = () => { marks.replaceChildren(); tip.hidden = true; };
    let current = 0;
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const px = ((event.clientX - box.left) / box.width) * width;
      let best = 0;
      spec.places.forEach((value, i) => { if (Math.abs(x(value) - px) < Math.abs(x(spec.places[best]) - px)) best = i; });
      return best;
    };
    svg.addEventListener("pointermove", (event) => show((current = nearest(event))));
    svg.addEventListener("pointerdown", (event) => show((current = nearest(event))));
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (event.key === "Escape") return hide();
      if (!step) return;
      event.preventDefault();
      current = Math.min(spec.places.length - 1, Math.max(0, current + step));
      show(current);
    });
  };

  const path = (points) => points.map(([px, py], i) => (i ? "L" : "M") + px.toFixed(1) + " " + py.toFixed(1)).join("");
  const empty = (id, sentence) => {
    const paragraph = document.createElement("p");
    paragraph.className = "empty";
    paragraph.textContent = sentence;
    document.getElementById(id).replaceChildren(paragraph);
  };

  // ---- latency by percentile
  const curves = data.modes.map((mode, i) => ({ label: mode.label, class: CLASSES[i], points: mode.open?.curve ?? [] }));
  if (data.device)
    curves.push({ label: "the disk: one durable 4 KiB write", short: "the disk", class: "dev", points: data.device.durable_write_curve });
  const drawn = curves.filter((curve) => curve.points.length > 1);
  const rarity = (q) => 1 / (1 - q);
  const valueAt = (points, q) => points.find((point) => point[0] >= q - 1e-12)?.[1];
  if (drawn.length) {
    const most = Math.max(...drawn.map((curve) => rarity(curve.points.at(-1)[0])));
    const [low, high] = around(drawn.flatMap((curve) => curve.points.map((point) => point[1])));
    const longest = drawn.reduce((a, b) => (b.points.length > a.points.length ? b : a));
    const places = longest.points.map((point) => rarity(point[0]));
    const ticks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 0.9999999].filter((q) => rarity(q) <= most * 1.01);
    chart("percentiles", {
      title: "Latency by percentile", height: 430, right: 18,
      describe: "Latency by percentile: " + drawn.map((c) =>
        `${c.label} p50 ${time(valueAt(c.points, 0.5) ?? 0)}, p99 ${time(valueAt(c.points, 0.99) ?? c.points.at(-1)[1])}`).join("; ")
        + ". Arrow keys move along the curve.",
      x: { scale: (a, b) => log(1, most, a, b), ticks: () => ticks.map(rarity), text: (v) => percent(1 - 1 / v), label: "percentile", grid: true },
      y: { scale: (a, b) => log(low, high * 1.4, a, b), ticks: decades(low, high * 1.4), text: tick },
      draw: (svg, x, y, inner) => {
        for (const curve of [...drawn].reverse()) {
          const points = curve.points.map(([q, us]) => [x(rarity(q)), y(us)]);
          make("path", { class: "line " + curve.class, d: path(points), "data-label": curve.label }, svg);
        }
        // Each name stands at the end of its line: above, or below where another is in the way.
        const ends = drawn.map((curve) => ({ curve, x: x(rarity(curve.points.at(-1)[0])), y: y(curve.points.at(-1)[1]) }));
        const isFree = (at, own) => ends.every((other) => other === own || Math.abs(other.x - own.x) > 130 || Math.abs(other.y - at + 5) > 14);
        const placed = [];
        for (const own of ends.sort((a, b) => a.y - b.y)) {
          const at = [own.y - 10, own.y + 20, own.y - 26, own.y + 36].find((at) =>
            isFree(at, own) && placed.every((other) => Math.abs(other.x - own.x) > 130 || Math.abs(other.at - at) > 15)) ?? own.y - 10;
          placed.push({ x: own.x, at });
          make("text", { class: "name " + own.curve.class, x: own.x, y: at, "text-anchor": "end" }, svg, own.curve.short ?? own.curve.label);
        }
      },
      places,
      at: (i) => {
        const q = longest.points[i][0];
        const here = drawn.map((curve) => ({ ...curve, us: valueAt(curve.points, q) })).filter((curve) => curve.us !== undefined);
        const rows = here.map((curve) => [curve.short ?? curve.label, time(curve.us)]);
        const [one, two] = [0, 1].map((m) => here.find((curve) => curve.class === CLASSES[m])?.us);
        if (one && two) rows.push(["ratio", (two / one).toFixed(2) + "×"]);
        return { x: rarity(q), title: percent(q) + " are at least as fast", rows, dots: here.map((c) => ({ y: c.us, class: c.class })) };
      },
    });
  } else empty("percentiles", "No round at the rate was measured.");

  // ---- over time
  const rounds = data.rounds.filter((round) => round.kind === "open" && round.report.intervals.length);
  const begin = rounds.length ? Math.min(...rounds.map((round) => round.measured_from_ms)) : 0;
  const cells = rounds.flatMap((round, r) => {
    const length = round.report.interval_seconds;
    const whole = round.report.measured_seconds;
    return round.report.intervals.map((one) => {
      const span = Math.min(length, whole - one.from_seconds);
      return {
        round: r, mode: round.mode, label: data.modes[round.mode].label, class: CLASSES[round.mode],
        x: (round.measured_from_ms - begin) / 1e3 + one.from_seconds + span / 2,
        // An interval without a message due has no latency.
        p50: one.latency_us.count ? one.latency_us.p50 : null, p99: one.latency_us.count ? one.latency_us.p99 : null,
        max: one.latency_us.max, rate: one.messages / span,
      };
    });
  });
  const spans = rounds.map((round) => {
    const from = (round.measured_from_ms - begin) / 1e3;
    return { from, to: from + round.report.measured_seconds, mode: round.mode };
  });
  const end = spans.length ? Math.max(...spans.map((span) => span.to)) : 1;
  const overTime = {
    scale: (a, b) => linear(0, end, a, b), label: "seconds since the first round", grid: false,
    ticks: (narrow) => { const step = nice(end, narrow ? 5 : 10), all = []; for (let t = 0; t <= end; t += step) all.push(t); return all; },
    text: (t) => grouped(t, t % 1 ? 1 : 0),
  };
  const bands = (svg, x, y, inner, narrow) => {
    spans.forEach((span) => {
      make("rect", { class: "band", x: x(span.from), y: inner.top, width: Math.max(1, x(span.to) - x(span.from)), height: inner.bottom - inner.top }, svg);
      const name = narrow || spans.length > 8 ? data.modes[span.mode].label.slice(0, 1) : data.modes[span.mode].label.replace("_FLUSH", "");
      if (x(span.to) - x(span.from) > 10)
        make("text", { class: "name " + CLASSES[span.mode], x: (x(span.from) + x(span.to)) / 2, y: inner.top - 2, "text-anchor": "middle" }, svg, name);
    });
  };
  const lines = (svg, x, y, figure, extra) => rounds.forEach((round, r) => {
    const points = cells.filter((cell) => cell.round === r && cell[figure] !== null).map((cell) => [x(cell.x), y(cell[figure])]);
    if (points.length) make("path", { class: `line ${CLASSES[round.mode]} ${extra}`, d: path(points), "data-label": data.modes[round.mode].label }, svg);
  });
  const values = cells.flatMap((cell) => [cell.p50, cell.p99]).filter((value) => value !== null);
  if (values.length) {
    const [low, high] = around(values);
    chart("latency", {
      title: "Latency over time", height: 320,
      describe: "Latency over time: p50 and p99 of each interval, for every round. Arrow keys move in time.",
      x: overTime, y: { scale: (a, b) => log(low, high, a, b), ticks: decades(low, high), text: tick },
      below: bands,
      draw: (svg, x, y) => { lines(svg, x, y, "p50", "thin"); lines(svg, x, y, "p99", "solid"); },
      places: cells.map((cell) => cell.x),
      at: (i) => {
        const cell = cells[i];
        if (cell.p99 === null) return null;
        return {
          x: cell.x, title: `${cell.label}, ${grouped(cell.x, 1)} s`,
          rows: [["p50", time(cell.p50)], ["p99", time(cell.p99)], ["max", time(cell.max)]],
          dots: [{ y: cell.p99, class: cell.class }, { y: cell.p50, class: cell.class }],
        };
      },
    });
    const most = Math.max(...cells.map((cell) => cell.rate)) * 1.08;
    const step = nice(most, 5);
    chart("throughput", {
      title: "Throughput over time", height: 300,
      describe: "Throughput over time: messages acknowledged a second in each interval, for every round. Arrow keys move in time.",
      x: overTime,
      y: { scale: (a, b) => linear(0, most, a, b), ticks: Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => Number((i * step).toPrecision(6))), text: short },
      below: bands,
      draw: (svg, x, y) => lines(svg, x, y, "rate", "solid"),
      places: cells.map((cell) => cell.x),
      at: (i) => ({
        x: cells[i].x, title: `${cells[i].label}, ${grouped(cells[i].x, 1)} s`,
        rows: [["messages/s", grouped(cells[i].rate)]], dots: [{ y: cells[i].rate, class: cells[i].class }],
      }),
    });
  } else {
    empty("latency", "No round at the rate was measured.");
    empty("throughput", "No round at the rate was measured.");
  }

  // ---- sizes of the flushes
  const sizes = data.modes.map((mode) => mode.open?.flush?.flush_sizes ?? null);
  const totals = sizes.map((list) => (list ? list.reduce((sum, count) => sum + count, 0) : 0));
  if (totals.some((total) => total > 0)) {
    const count = Math.max(...sizes.map((list) => (list ? list.findLastIndex((n) => n > 0) + 1 : 0)));
    const share = (m, i) => (totals[m] ? ((sizes[m][i] ?? 0) / totals[m]) * 100 : 0);
    const most = Math.max(...sizes.flatMap((list, m) => (list ?? []).map((_, i) => share(m, i)))) * 1.08;
    const step = nice(most, 5);
    const name = (i) => (i === 0 ? "1" : `${grouped(2 ** i)}–${grouped(2 ** (i + 1) - 1)}`);
    chart("sizes", {
      title: "Messages made durable by one flush", height: 300, left: 48,
      describe: "Messages made durable by one flush, as shares of all flushes: " + data.modes.map((mode, m) => totals[m]
        ? `${mode.label} mostly ${name(sizes[m].indexOf(Math.max(...sizes[m])))}` : `${mode.label} not reported`).join("; ") + ". Arrow keys move along the sizes.",
      x: { scale: (a, b) => linear(-0.5, count - 0.5, a, b), ticks: () => Array.from({ length: count }, (_, i) => i), text: (i) => short(2 ** i >= 1024 ? Math.round(2 ** i / 1000) * 1000 : 2 ** i), label: "messages a flush, from … to the next" },
      y: { scale: (a, b) => linear(0, most, a, b), ticks: Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => Number((i * step).toPrecision(4))), text: (v) => v + "%" },
      draw: (svg, x, y, inner) => {
        const hatch = make("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, make("defs", {}, svg));
        make("rect", { width: 6, height: 6, class: "two", style: "fill: var(--c); opacity: .35" }, hatch);
        make("line", { x1: 0, x2: 0, y1: 0, y2: 6, class: "two", style: "stroke: var(--c); stroke-width: 5" }, hatch);
        const slot = (x(1) - x(0)) * 0.8;
        sizes.forEach((list, m) => (list ?? []).forEach((n, i) => {
          if (!n || i >= count) return;
          const left = x(i) - slot / 2 + (m * slot) / 2;
          make("rect", { class: "bar " + CLASSES[m], x: left, y: y(share(m, i)), width: Math.max(1, slot / 2 - 1), height: Math.max(1, inner.bottom - y(share(m, i))) }, svg);
        }));
      },
      places: Array.from({ length: count }, (_, i) => i),
      at: (i) => ({
        x: i, title: `${name(i)} message${i ? "s" : ""}`,
        rows: data.modes.map((mode, m) => [mode.label, totals[m] ? `${grouped(share(m, i), 1)}%, ${grouped(sizes[m][i] ?? 0)}` : "not reported"]),
      }),
    });
  } else empty("sizes", "Not reported by this broker.");

  // ---- the data as a file
  const link = document.getElementById("download");
  link.href = URL.createObjectURL(new Blob([document.getElementById("data").textContent], { type: "application/json" }));
  link.hidden = false;
})();
