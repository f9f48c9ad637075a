"""The table says what was measured, and does not hide a run that was not sound. `python3 -m unittest discover bench/peers`"""

import unittest

import table

TITLES = {"ringmq": "RingMQ", "apache": "Apache"}


def run(peer, rate, *, round_=1, workload="32x8", findings=(), rejected=(), cpu=2.0):
    return {
        "round": round_, "mode": "async", "peer": peer, "workload": workload, "messages_per_second": rate,
        "p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0, "cpu_us_per_message": cpu,
        "findings": list(findings), "rejected": list(rejected), "notes": [],
    }  # fmt: skip


def tables(runs):
    peers = sorted({r["peer"] for r in runs}, reverse=True)
    rows = table.summary(runs, peers)
    return rows, table.markdown(rows, peers, TITLES, {})


class Table(unittest.TestCase):
    def test_medians_have_their_spread_and_a_ratio(self):
        runs = [run("ringmq", rate, round_=n) for n, rate in enumerate([400_000, 500_000, 420_000], 1)]
        runs += [run("apache", 42_000, round_=1)]
        rows, text = tables(runs)
        self.assertEqual(rows[0]["messages_per_second"], {"median": 420_000, "min": 400_000, "max": 500_000})
        self.assertIn("| 420,000 (400,000 to 500,000) | 42,000 |", text)
        self.assertIn("| 32 x 8, RingMQ to it |  | 10.00 |", text)
        self.assertIn("| 10 / 20 / 30 | 10 / 20 / 30 |", text)

    def test_a_run_with_a_finding_is_in_no_median(self):
        rows, text = tables([run("ringmq", 400_000), run("ringmq", 1, round_=2, findings=["3 messages were lost"])])
        self.assertEqual((rows[0]["rounds"], rows[0]["sound"]), (2, 1))
        self.assertEqual(rows[0]["messages_per_second"]["min"], 400_000)
        self.assertIn("[1 of 2 rounds not sound]", text)
        self.assertIn("- RingMQ, async, 32x8: 3 messages were lost", text)

    def test_a_rate_that_was_not_kept_is_no_figure(self):
        _, text = tables([run("ringmq", 20_000, workload="20k"), run("apache", 15_000, workload="20k")])
        self.assertIn("messages/s | 20,000 | rate not kept |", text)

    def test_a_load_that_was_too_slow_measured_itself(self):
        _, text = tables([run("ringmq", 20_000, workload="20k", rejected=["the generator was late"])])
        self.assertIn("messages/s | the load was too slow |", text)
        self.assertIn("- RingMQ, async, 20k: the generator was late", text)

    def test_what_was_not_watched_is_left_empty(self):
        _, text = tables([run("ringmq", 400_000, cpu=None)])
        self.assertIn("CPU a message, us |  |", text)

    def test_numbers_have_three_digits_that_count(self):
        told = {438_912.3: "439,000", 1_234_567: "1,230,000", 999.6: "1000", 935.4: "935", 2.2649: "2.26", 0.0512: "0.0512"}
        for value, text in told.items():
            self.assertEqual(table.number(value), text)


if __name__ == "__main__":
    unittest.main()
