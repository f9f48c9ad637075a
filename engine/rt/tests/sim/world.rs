//! Scheduler, clock, limits and crashes of tasks.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::sim::{Cache, CrashKind, Disk, Ended, NodeId, Sim};
use ringmq_rt::sync::Event;
use ringmq_rt::{now, sleep, spawn, timeout, wall_ms, yield_now};

const MS: Duration = Duration::from_millis(1);

/// Ten tasks that give way and sleep; the order in which they passed each point, and the trace.
fn interleaving(seed: u64) -> (Vec<(u64, u64)>, u64) {
    let sim = Sim::new(seed);
    let log = Rc::new(RefCell::new(Vec::new()));
    sim.run(async {
        let tasks: Vec<_> = (0..10)
            .map(|task| {
                let log = Rc::clone(&log);
                spawn("interleaved", async move {
                    for point in 0..5 {
                        log.borrow_mut().push((task, point));
                        yield_now().await;
                        sleep(Duration::from_micros(task % 3)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    (log.take(), sim.trace())
}

#[test]
fn the_seed_is_the_run() {
    for seed in 0..50 {
        assert_eq!(interleaving(seed), interleaving(seed), "seed {seed}");
    }
    let orders: std::collections::BTreeSet<_> = (0..50).map(interleaving).collect();
    assert_eq!(orders.len(), 50, "different seeds should run differently");
}

#[test]
fn tasks_that_can_all_run_do_so_in_any_order() {
    let order = |seed| {
        let log = Rc::new(RefCell::new(Vec::new()));
        Sim::new(seed).run(async {
            for task in 0..5 {
                let log = Rc::clone(&log);
                spawn("one of five", async move { log.borrow_mut().push(task) }).detach();
            }
            sleep(MS).await;
        });
        log.take()
    };
    let orders: std::collections::BTreeSet<_> = (0..2000).map(order).collect();
    assert_eq!(orders.len(), 120, "every order of five tasks should come up");
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines_and_cost_no_real_time() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let fired = Rc::new(RefCell::new(Vec::new()));
        let begin = std::time::Instant::now();
        sim.run(async {
            let start = now();
            let tasks: Vec<_> = [5_u32, 1, 4, 2, 3]
                .map(|hours| {
                    let fired = Rc::clone(&fired);
                    spawn("sleeper", async move {
                        sleep(hours * Duration::from_secs(3600)).await;
                        fired.borrow_mut().push((hours, now().since(start).as_secs() / 3600));
                    })
                })
                .into_iter()
                .collect();
            for task in tasks {
                task.await;
            }
        });
        assert_eq!(*fired.borrow(), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], "seed {seed}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_dropped_timer_does_not_move_the_clock() {
    let sim = Sim::new(1);
    sim.run(async {
        let start = now();
        timeout(Duration::from_secs(3600), sleep(MS)).await.unwrap();
        timeout(MS, sleep(Duration::from_secs(3600))).await.unwrap_err();
        assert!(now().since(start) < 3 * MS);
    });
    let text = panic_text(&sim, std::future::pending::<()>());
    assert!(text.contains("deadlock"), "the long timer is gone, so nothing can happen: {text}");
}

/// What a run that must fail panics with.
fn panic_text<T>(sim: &Sim, future: impl Future<Output = T>) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| sim.run(future))).err().expect("the run should have failed");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
fn a_deadlock_is_found_and_names_the_seed() {
    let sim = Sim::new(4711);
    let text = panic_text(&sim, async {
        let never = Event::new();
        never.wait().await;
    });
    assert!(text.contains("deadlock") && text.contains("seed 4711"), "{text}");
}

#[test]
fn spinning_and_endless_waiting_are_found() {
    let sim = Sim::new(7);
    sim.set_step_limit(10_000);
    let spin = panic_text(&sim, async {
        loop {
            yield_now().await;
        }
    });
    assert!(spin.contains("too many steps") && spin.contains("seed 7"), "{spin}");

    let sim = Sim::new(8);
    sim.set_time_limit(Duration::from_secs(60));
    let wait = panic_text(&sim, async {
        loop {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert!(wait.contains("virtual time") && wait.contains("seed 8"), "{wait}");
}

#[test]
fn a_world_lives_on_between_runs_and_a_new_one_can_follow() {
    let sim = Sim::new(3);
    let ticks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ticks);
    sim.run(async move {
        spawn("ticker", async move {
            loop {
                sleep(MS).await;
                counted.set(counted.get() + 1);
            }
        })
        .detach();
        sleep(10 * MS).await;
    });
    let first = ticks.get();
    sim.run(sleep(100 * MS));
    assert!(ticks.get() >= first + 95, "the ticker goes on in the next run");
    drop(sim);
    assert_eq!(Rc::strong_count(&ticks), 1, "a world that is dropped drops its tasks");
    Sim::new(4).run(sleep(MS));
}

struct OnDrop(Rc<Cell<bool>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // What is dropped in a crash may still speak to the world.
        let _ = now();
        spawn("last words", async { unreachable!("a task of a dead process ran") }).detach();
        self.0.set(true);
    }
}

#[test]
fn a_crash_drops_the_tasks_of_its_node_only() {
    let sim = Sim::new(5);
    let other = sim.add_node(Disk::new(6));
    let (mine, theirs) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    for (node, flag) in [(NodeId::FIRST, &mine), (other, &theirs)] {
        let guard = OnDrop(Rc::clone(flag));
        sim.spawn_on(node, async move {
            std::future::pending::<()>().await;
            drop(guard);
        });
    }
    sim.run(sleep(MS));
    sim.run(async {
        sim.crash_node(other, CrashKind::ProcessKill);
        sleep(MS).await;
    });
    assert_eq!((mine.get(), theirs.get()), (false, true));
    sim.crash(CrashKind::PowerCut(Cache::Random));
    assert!(mine.get());
    assert!(catch_unwind(AssertUnwindSafe(|| sim.run(async {}))).is_err(), "a node that is down runs nothing");
    sim.restart();
    sim.run(sleep(MS));
}

#[test]
fn a_run_can_be_cut_at_any_step() {
    let full = Sim::new(9);
    full.run(async {
        for _ in 0..10 {
            yield_now().await;
        }
    });
    for steps in 0..full.steps() {
        let sim = Sim::new(9);
        let run = sim.run_steps(steps, async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        assert_eq!(run, Ended::Stopped, "{steps} of {}", full.steps());
    }
}

#[test]
fn the_wall_clock_steps_alone() {
    let sim = Sim::new(10);
    sim.run(async {
        let (wall, mono) = (wall_ms(), now());
        sim.step_wall_clock(NodeId::FIRST, -5000);
        assert_eq!((wall_ms(), now()), (wall - 5000, mono));
        sleep(Duration::from_secs(1)).await;
        assert!((-4001..=-3999).contains(&(wall_ms() - wall)));
    });
}

#[test]
fn a_task_that_panics_fails_the_run() {
    let sim = Sim::new(11);
    let text = panic_text(&sim, async {
        spawn("bad", async { panic!("on purpose") }).await;
    });
    assert_eq!(text, "on purpose");
}
