"""The table of results: what a run of the suite says."""
import json

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


def verdict(results, required):
    """Exit status: 0 only if every required row passed; a skipped one is not a pass."""
    state = {r["row"]: r["state"] for r in results}
    failed = any(s == FAIL for s in state.values())
    return 1 if failed or any(state.get(name) != PASS for name in required) else 0


def shown(value):
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def line(result):
    """One row of the table, with proofs and figures below it."""
    text = [f"{result['state']} {result['row']:>6}  {result['title']}  "
            f"({result['backend']}, {result['seconds']:.0f} s)"]
    if result.get("why"):
        text += [f"             {why}" for why in result["why"]]
    text += [f"             proof: {p}" for p in result.get("proofs", [])]
    if result.get("figures"):
        text.append("             " + ", ".join(f"{k} {shown(v)}" for k, v in result["figures"].items()))
    return "\n".join(text)


def table(results):
    """A Markdown table of all results."""
    out = ["| row | fault | backend | state | figures, or why not |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        words = [f"{k} {shown(v)}" for k, v in r.get("figures", {}).items()]
        out.append(f"| {r['row']} | {r['title']} | {r['backend']} | {r['state']} "
                   f"| {'; '.join(r.get('why') or words or r.get('proofs', []))[:300]} |")
    return "\n".join(out)


def summary(results):
    count = {s: sum(r["state"] == s for r in results) for s in (PASS, FAIL, SKIP)}
    return f"{count[PASS]} passed, {count[FAIL]} failed, {count[SKIP]} skipped"


def save(path, results, machine):
    with open(path, "w") as file:
        json.dump({"machine": machine, "results": results}, file, indent=1)
