"""What the runs have shown: medians and spread, as a table for people and as JSON for programs."""

import statistics

from workloads import MODES, WORKLOADS

FIGURES = ("messages_per_second", "p50_us", "p99_us", "p999_us", "cpu_us_per_message")
KEPT = 0.98
OURS = "ringmq"


def is_sound(result, workload):
    """Whether the run measured what it was to measure: no finding, a load that was fast enough, and an open loop that kept its rate."""
    kept = workload.rate is None or result["messages_per_second"] >= KEPT * workload.rate
    return kept and not result["findings"] and not result["rejected"]


def summary(results, peers):
    """Median, least and most of each figure, over the sound rounds of each peer, mode and workload."""
    rows = []
    for mode in MODES:
        for workload in (w for w in WORKLOADS if mode in w.modes):
            for peer in peers:
                key = (mode, workload.name, peer)
                runs = [r for r in results if (r["mode"], r["workload"], r["peer"]) == key]
                if not runs:
                    continue
                sound = [r for r in runs if is_sound(r, workload)]
                row = {"mode": mode, "workload": workload.name, "peer": peer, "rounds": len(runs), "sound": len(sound)}
                row["findings"] = sorted({finding for r in runs for finding in r["findings"]})
                row["rejected"] = sorted({why for r in runs for why in r["rejected"]})
                row["notes"] = sorted({note for r in runs for note in r["notes"]})
                for figure in FIGURES:
                    values = [r[figure] for r in sound if r[figure] is not None]
                    if values:
                        middle = statistics.median(values)
                        row[figure] = {"median": middle, "min": min(values), "max": max(values)}
                rows.append(row)
    return rows


def number(value):
    """Three digits that count, and whole thousands apart."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(figure):
    middle, least, most = (number(figure[which]) for which in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least} to {most})"


def ratio_to(own):
    """How many times another's figure RingMQ's is; nothing for itself."""
    return lambda figure: "" if figure is own else f"{own['median'] / figure['median']:.2f}"


def cell(row, figures, text):
    """A cell of the table, or why there is no figure."""
    if row is None:
        return ""
    if not row["sound"]:
        if row["rejected"] and not row["findings"]:
            return "the load was too slow"
        open_loop = any(w.rate for w in WORKLOADS if w.name == row["workload"])
        return "rate not kept" if open_loop else "failed"
    if any(figure not in row for figure in figures):
        return ""
    lost = row["rounds"] - row["sound"]
    return text(*(row[figure] for figure in figures)) + (f" [{lost} of {row['rounds']} rounds not sound]" if lost else "")


def markdown(rows, peers, titles, facts):
    """The tables, below what they were measured on."""
    lines = ["# RingMQ and its peers", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "Medians over the rounds, least and most in brackets. Latencies in microseconds.", ""]
    for mode in MODES:
        of_mode = [row for row in rows if row["mode"] == mode]
        if not of_mode:
            continue
        lines += [f"## {mode.upper()}_FLUSH", "", "| | " + " | ".join(titles[p] for p in peers) + " |"]
        lines += ["| --- |" + " --- |" * len(peers)]
        for workload in WORKLOADS:
            found = {row["peer"]: row for row in of_mode if row["workload"] == workload.name}
            if not found:
                continue

            def line(what, figures, text, workload=workload, found=found):
                cells = [cell(found.get(peer), figures, text) for peer in peers]
                lines.append(f"| {workload.title}, {what} | " + " | ".join(cells) + " |")

            line("messages/s", ("messages_per_second",), spread)
            own = found.get(OURS, {}).get("messages_per_second")
            if len(found) > 1 and workload.rate is None and own:
                line(f"{titles[OURS]} to it", ("messages_per_second",), ratio_to(own))
            three = ("p50_us", "p99_us", "p999_us")
            line("p50 / p99 / p99.9", three, lambda *all: " / ".join(number(one["median"]) for one in all))
            line("CPU a message, us", ("cpu_us_per_message",), spread)
        lines.append("")
    said = [(row, text) for row in rows for text in row["findings"] + row["rejected"] + row["notes"]]
    if said:
        lines += ["## What the runs say of themselves", ""]
        lines += [f"- {titles[row['peer']]}, {row['mode']}, {row['workload']}: {text}" for row, text in said]
        lines.append("")
    return "\n".join(lines)
