use std::collections::BTreeSet;

use ringmq_rt::sim::{Cache as Volatile, CrashKind, Sim};

use super::work::Ended;
use super::*;

const ROOT: &str = "/store";

async fn open(start: u64, worth: usize) -> Rc<Runs> {
    open_vouched(start, Vouched::default(), worth).await
}

async fn open_vouched(start: u64, vouched: Vouched, worth: usize) -> Rc<Runs> {
    let shard = ShardId::new(0).unwrap();
    crate::dir::make(Path::new(ROOT), Path::new("/")).await.unwrap();
    Runs::open(Path::new(ROOT), shard, 7, Kind::Keys, start, vouched, worth).await.unwrap()
}

/// Every merge that is worth it.
async fn merge_all(runs: &Runs) -> usize {
    let mut merges = 0;
    while let Some(window) = runs.next_merge() {
        assert!(matches!(runs.merge(&|| false, window).await, Ended::Merged));
        merges += 1;
    }
    runs.drop_gone().await.unwrap();
    merges
}

/// All values of a key, asked for in steps.
async fn values(runs: &Runs, key: u64, step: usize) -> Vec<u64> {
    let (mut all, mut below) = (Vec::new(), u64::MAX);
    loop {
        let some = runs.newest(key, below, step).await.unwrap();
        let Some(last) = some.last() else { return all };
        assert!(some.len() <= step && some.is_sorted_by(|a, b| a > b) && some[0] < below, "{some:?} below {below}");
        below = *last;
        all.extend(some);
    }
}

/// All entries of a stretch of keys, asked for in steps.
async fn stretch(runs: &Runs, from: u64, to: u64, step: usize) -> Vec<Entry> {
    let (mut all, mut at) = (Vec::new(), Entry { key: from, value: 0 });
    loop {
        let some = runs.range(at, to, step).await.unwrap();
        let Some(last) = some.last() else { return all };
        at = Entry { key: last.key, value: last.value + 1 };
        all.extend(some);
    }
}

#[test]
fn random_entries_are_all_found_wherever_they_are() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let mut rng = sim.fork_rng();
        sim.run(async {
            let mut runs = open(0, 300).await;
            let (mut model, mut at, mut floor, mut most) = (BTreeSet::new(), 0, 0, 0);
            for round in 0..120 {
                most = most.max(runs.stats().runs);
                for _ in 0..rng.below(200) {
                    at += 1 + rng.below(3);
                    let entry = Entry { key: rng.below(30), value: at };
                    runs.insert(entry.key, entry.value, at);
                    model.insert(entry);
                }
                match rng.below(8) {
                    0 => runs.want(at + 1),
                    1 => drop(runs.sort_one()),
                    2 => {
                        floor = floor.max(at.saturating_sub(rng.below(4000)));
                        runs.drop_in_front_of(floor);
                    }
                    3 => drop(merge_all(&runs).await),
                    4 => {
                        runs.want(at + 1);
                        runs.write_due().await.unwrap();
                        assert_eq!(runs.covered(), at + 1, "seed {seed} round {round}");
                        if rng.below(2) == 0 {
                            let vouched = runs.vouch().await.unwrap();
                            runs = open_vouched(floor, vouched, 300).await;
                            assert_eq!(runs.covered(), at + 1, "seed {seed} round {round}");
                        } else {
                            // How far the log is empty behind the last run is not in the files.
                            runs = open(floor, 300).await;
                            assert!(runs.covered() <= at + 1, "seed {seed} round {round}");
                        }
                        at += 1;
                    }
                    _ => runs.write_due().await.unwrap(),
                }
                let (key, step) = (rng.below(30), 1 + rng.index(200));
                let live = |entry: &&Entry| entry.value >= floor;
                let expect: Vec<u64> =
                    model.iter().rev().filter(live).filter(|e| e.key == key).map(|e| e.value).collect();
                assert_eq!(values(&runs, key, step).await, expect, "seed {seed} round {round} key {key}");
                let (from, to) = (rng.below(30), rng.below(30));
                let inside = |entry: &&Entry| from <= entry.key && entry.key <= to;
                let expect: Vec<Entry> = model.iter().filter(live).filter(inside).copied().collect();
                assert_eq!(stretch(&runs, from, to, step).await, expect, "seed {seed} round {round} {from} to {to}");
                let behind = Entry { key: from, value: rng.below(at + 1) };
                let count = usize::try_from(runs.count_from(behind).await.unwrap()).unwrap();
                let (all, live) = (model.range(behind..).count(), model.range(behind..).filter(live).count());
                assert!((live..=all).contains(&count), "seed {seed} round {round}: {count} is not {live} to {all}");
                assert!(floor > 0 || count == all, "seed {seed} round {round}: {count} of {all}");
            }
            assert!(most > 2, "seed {seed}: {most} runs");
        });
    }
}

#[test]
fn a_hot_key_is_cheap_however_many_entries_it_has() {
    Sim::new(1).run(async {
        let runs = open(0, limits::RUN_TABLE).await;
        for n in 0..1_000_000_u64 {
            runs.insert(4, n, n);
            if n % 4 == 0 {
                runs.insert(n | 1 << 40, n, n);
            }
            runs.write_due().await.unwrap();
        }
        runs.want(1_000_000);
        runs.write_due().await.unwrap();
        merge_all(&runs).await;
        assert_eq!((runs.stats().pending, runs.stats().entries), (0, 1_250_000));
        let before = runs.stats().blocks_read;
        assert_eq!(runs.newest(4, u64::MAX, 64).await.unwrap(), (999_936..1_000_000).rev().collect::<Vec<_>>());
        let read = runs.stats().blocks_read - before;
        assert!(read <= 2, "{read} blocks for the newest of a hot key");
        let before = runs.stats().blocks_read;
        assert!(runs.newest(5, u64::MAX, 64).await.unwrap().is_empty(), "a key that is not there");
        let (read, most) = (runs.stats().blocks_read - before, runs.stats().runs as u64);
        assert!(read <= most, "{read} blocks for a key that is not there, of {most} runs");
        let before = runs.stats().blocks_read;
        assert_eq!(runs.newest(4, 300_000, 64).await.unwrap().first(), Some(&299_999));
        let read = runs.stats().blocks_read - before;
        let most = 3 * runs.stats().runs as u64;
        assert!(read <= most, "{read} blocks for those in front of a place, of {} runs", runs.stats().runs);
    });
}

#[test]
fn entries_that_come_twice_count_once() {
    Sim::new(2).run(async {
        let runs = open(0, 100).await;
        for _ in 0..3 {
            for n in 0..150 {
                runs.insert(n % 5, n, 0);
            }
            runs.want(runs.covered() + 1);
            runs.write_due().await.unwrap();
        }
        assert_eq!(values(&runs, 3, 7).await, (0..150).rev().filter(|n| n % 5 == 3).collect::<Vec<_>>());
        assert_eq!(stretch(&runs, 0, 9, 11).await.len(), 150);
    });
}

#[test]
fn a_crash_at_any_step_leaves_whole_runs_and_says_how_far_they_reach() {
    for seed in 0..300 {
        let sim = Sim::new(seed);
        let mut rng = sim.fork_rng();
        let reported = Rc::new(Cell::new(Vouched::default()));
        let steps = rng.below(600);
        let note = Rc::clone(&reported);
        // Every value has its own key, so that what is missing is seen.
        sim.run_steps(steps, async move {
            let runs = open(0, 50).await;
            for n in 0..5_000_u64 {
                runs.insert(n * 2, n, n);
                if n % 30 == 0 {
                    runs.want(n);
                    runs.write_due().await.unwrap();
                    if n % 90 == 0 {
                        note.set(runs.vouch().await.unwrap());
                    }
                    merge_all(&runs).await;
                }
            }
        });
        sim.crash(match rng.below(3) {
            0 => CrashKind::PowerCut(Volatile::Lost),
            1 => CrashKind::PowerCut(Volatile::Random),
            _ => CrashKind::ProcessKill,
        });
        sim.restart();
        sim.run(async {
            let runs = open_vouched(0, reported.get(), 50).await;
            let covered = runs.covered();
            assert!(covered >= reported.get().covered, "seed {seed}: {covered} of {:?}", reported.get());
            for n in 0..covered {
                assert_eq!(runs.newest(n * 2, u64::MAX, 2).await.unwrap(), [n], "seed {seed}");
            }
        });
    }
}

#[test]
fn damage_is_told_with_its_place_and_built_again_at_the_next_start() {
    let sim = Sim::new(3);
    let vouched = three_runs(&sim);
    let second = format!("{ROOT}/index/0/keys/0000000001-0000000001.run");
    sim.disk().corrupt(&second, 2 * 4096 + 100, 1).unwrap();
    sim.run(async {
        let runs = open_vouched(0, vouched, 4000).await;
        assert_eq!(runs.covered(), 3_000, "damage inside is not looked for at a start");
        assert_eq!(runs.newest(1_100 * 2, u64::MAX, 1).await.unwrap(), [1_100], "another block");
        match runs.newest(1_300 * 2, u64::MAX, 1).await {
            Err(ReadError::RunDamaged { path, at }) => assert_eq!((path.to_str().unwrap(), at), (&*second, 2 * 4096)),
            other => panic!("{other:?}"),
        }
        assert_eq!(runs.newest(2_500 * 2, u64::MAX, 1).await.unwrap(), [2_500], "the others serve");
    });
    sim.run(async {
        let runs = open_vouched(0, vouched, 4000).await;
        assert_eq!((runs.covered(), runs.stats().runs), (1_000, 1), "what follows is read from the log again");
    });
}

#[test]
fn a_run_that_nothing_vouches_for_is_read_whole_at_a_start() {
    let sim = Sim::new(5);
    let vouched = three_runs(&sim);
    sim.disk().corrupt(format!("{ROOT}/index/0/keys/0000000002-0000000002.run"), 2 * 4096 + 100, 1).unwrap();
    sim.run(async {
        assert_eq!(open_vouched(0, vouched, 4000).await.covered(), 3_000);
        let before = Vouched { next: 2, end: 2_000, covered: 2_000 };
        let runs = open_vouched(0, before, 4000).await;
        assert_eq!((runs.covered(), runs.stats().runs), (2_000, 2));
    });
}

#[test]
fn a_run_that_a_power_cut_left_in_part_is_never_taken_for_whole() {
    // Behind the runs that are there, in the place of one that is lost, or of one that was lost and vouched for.
    for (lost, vouched_for) in [(false, true), (true, false), (true, true)] {
        let (mut there, mut gone) = (0, 0);
        // The run is written among these steps: before them there is none of it, behind them all.
        for (seed, steps) in (0..40).flat_map(|seed| (30..60).map(move |steps| (seed, steps))) {
            let sim = Sim::new(seed);
            let mut vouched = three_runs(&sim);
            if !vouched_for {
                vouched = Vouched { next: 2, end: 2_000, covered: 2_000 };
            }
            if lost {
                sim.disk().corrupt(format!("{ROOT}/index/0/keys/0000000002-0000000002.run"), 8192 + 100, 1).unwrap();
                sim.run(async move {
                    let runs = open_vouched(0, vouched, 4000).await;
                    let found = runs.newest(2_300 * 2, u64::MAX, 1).await;
                    assert!(found.is_err() || found.unwrap().is_empty());
                });
            }
            let end = if lost { 3_000 } else { 4_000 };
            sim.run_steps(steps, async move {
                let runs = open_vouched(0, vouched, 4000).await;
                assert_eq!(runs.covered(), end - 1_000);
                for n in end - 1_000..end {
                    runs.insert(n * 2, n, n);
                }
                runs.want(end);
                runs.write_due().await.unwrap();
            });
            sim.crash(CrashKind::PowerCut(Volatile::Random));
            sim.restart();
            let covered = Rc::new(Cell::new(0));
            let note = Rc::clone(&covered);
            sim.run(async move {
                let runs = open_vouched(0, vouched, 4000).await;
                note.set(runs.covered());
                for n in (2_000..runs.covered()).step_by(50) {
                    let found = runs.newest(n * 2, u64::MAX, 2).await;
                    assert!(matches!(&found, Ok(found) if *found == [n]), "seed {seed} step {steps}: {found:?}");
                }
            });
            match covered.get() {
                at if at == end => there += 1,
                at if at == end - 1_000 => gone += 1,
                at => panic!("seed {seed} step {steps}: covered to {at}"),
            }
        }
        assert!(there > 0 && gone > 0, "{there} there and {gone} gone, lost {lost}, vouched for {vouched_for}");
    }
}

/// Three runs of a thousand entries each, and what a snapshot would vouch for.
fn three_runs(sim: &Sim) -> Vouched {
    let vouched = Rc::new(Cell::new(Vouched::default()));
    let note = Rc::clone(&vouched);
    sim.run(async move {
        let runs = open(0, 4000).await;
        for n in 0..3_000 {
            runs.insert(n * 2, n, n);
            if n % 1000 == 999 {
                runs.want(n + 1);
                runs.write_due().await.unwrap();
            }
        }
        assert_eq!((runs.covered(), runs.stats().runs), (3_000, 3));
        note.set(runs.vouch().await.unwrap());
    });
    vouched.get()
}

#[test]
fn what_lies_in_front_of_the_log_goes_whole_or_with_the_next_merge() {
    let sim = Sim::new(4);
    sim.run(async {
        let runs = open(0, 1000).await;
        for n in 0..8_000 {
            runs.insert(n % 7, n, n);
            if n % 1000 == 999 {
                runs.want(n + 1);
                runs.write_due().await.unwrap();
            }
        }
        runs.drop_in_front_of(2_500);
        runs.drop_gone().await.unwrap();
        assert_eq!((runs.stats().runs, runs.stats().entries), (6, 6_000));
        assert_eq!(values(&runs, 3, 50).await.last(), Some(&2_502));
        for n in 8_000..10_000 {
            runs.insert(n % 7, n, n);
            if n % 1000 == 999 {
                runs.want(n + 1);
                runs.write_due().await.unwrap();
            }
        }
        assert_eq!(merge_all(&runs).await, 1);
        assert_eq!((runs.stats().runs, runs.stats().entries), (1, 7_500));
        assert_eq!(sim.disk().files().len(), 1);
    });
}
