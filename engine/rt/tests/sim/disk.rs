//! What the modelled disk keeps and what it may lose.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq_rt::fs;
use ringmq_rt::sim::{Cache, CrashKind, Disk, DiskModel, Ended, Failure, Fault, Request, Sim};
use ringmq_rt::{AlignedBuf, BLOCK, CommitMethod, File, now, spawn};

use super::{block, blocks, read_block};

const CUTS: [CrashKind; 4] = [
    CrashKind::ProcessKill,
    CrashKind::PowerCut(Cache::Lost),
    CrashKind::PowerCut(Cache::Kept),
    CrashKind::PowerCut(Cache::Random),
];

async fn create(path: &str) -> File {
    let file = File::create(Path::new(path)).await.unwrap();
    fs::sync_dir(Path::new("/")).await.unwrap();
    file
}

#[test]
fn what_was_synced_or_committed_survives_everything() {
    for (seed, kind) in (0..200).flat_map(|seed| CUTS.map(|kind| (seed, kind))) {
        let sim = Sim::new(seed);
        sim.run(async {
            let file = create("/log").await;
            file.allocate(8 * BLOCK as u64).await.unwrap();
            file.write_at(&[block(1), block(2)], 0).await.unwrap();
            file.sync().await.unwrap();
            file.commit(&[block(3)], 2 * BLOCK as u64, CommitMethod::Thread).await.unwrap();
        });
        sim.crash(kind);
        sim.restart();
        sim.run(async {
            let file = File::open(Path::new("/log")).await.unwrap();
            for (number, byte) in [(0, 1), (1, 2), (2, 3)] {
                assert_eq!(read_block(&file, number).await, [byte; BLOCK], "seed {seed} {kind:?}");
            }
        });
    }
}

/// Three blocks are written and not synced; the sectors that read as each of old and new, over many power cuts.
#[test]
fn unflushed_sectors_are_kept_or_lost_one_by_one() {
    let (mut whole, mut none, mut mixed) = (0, 0, 0);
    for seed in 0..300 {
        let sim = Sim::new(seed);
        sim.run(async {
            let file = create("/log").await;
            file.commit(&[blocks(1, 3)], 0, CommitMethod::Thread).await.unwrap();
            file.write_at(&[blocks(2, 3)], 0).await.unwrap();
            assert_eq!(read_block(&file, 2).await, [2; BLOCK], "written is readable");
        });
        assert!(!sim.disk().is_flushed("/log").unwrap());
        sim.crash(CrashKind::PowerCut(Cache::Random));
        let bytes = sim.disk().read_all("/log").unwrap();
        let kept = bytes.chunks(512).map(|sector| {
            assert!(sector.iter().all(|&b| b == sector[0]), "a sector is never torn, seed {seed}");
            assert!([1, 2].contains(&sector[0]));
            sector[0] == 2
        });
        match kept.filter(|kept| *kept).count() {
            0 => none += 1,
            24 => whole += 1,
            _ => mixed += 1,
        }
        assert!(sim.disk().is_flushed("/log").unwrap(), "after a power cut everything there is on the medium");
    }
    assert!(whole > 20 && none > 20 && mixed > 100, "{whole} {none} {mixed}");
}

#[test]
fn a_killed_process_keeps_what_completed_and_tears_what_did_not() {
    let mut torn = 0;
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let stopped = sim.run(async {
            let file = create("/log").await;
            file.write_at(&[block(1)], 0).await.unwrap();
            // Asked for, and not waited for.
            let write = [blocks(2, 2)];
            ringmq_rt::timeout(Duration::from_nanos(1), file.write_at(&write, BLOCK as u64)).await
        });
        assert!(stopped.is_err());
        sim.crash(CrashKind::ProcessKill);
        let bytes = sim.disk().read_all("/log").unwrap();
        assert!(bytes[..BLOCK].iter().all(|&b| b == 1));
        let new = bytes[BLOCK..].chunks(512).filter(|sector| {
            assert!(sector.iter().all(|&b| b == sector[0] && (b == 0 || b == 2)));
            sector[0] == 2
        });
        torn += u32::from((1..16).contains(&new.count()));
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn a_write_goes_on_when_nobody_waits_for_it() {
    let sim = Sim::new(1);
    sim.run(async {
        let file = create("/log").await;
        let _ = ringmq_rt::timeout(Duration::from_nanos(1), file.write_at(&[block(1)], 0)).await;
        ringmq_rt::sleep(Duration::from_secs(1)).await;
        assert_eq!(read_block(&file, 0).await, [1; BLOCK]);
    });
}

#[test]
fn a_sync_covers_what_had_completed_when_it_was_asked_for() {
    let mut lost = 0;
    for seed in 0..100 {
        let sim = Sim::new(seed);
        sim.run(async {
            let file = create("/log").await;
            file.allocate(2 * BLOCK as u64).await.unwrap();
            file.write_at(&[block(1)], 0).await.unwrap();
            let second = std::rc::Rc::new(file);
            let late = std::rc::Rc::clone(&second);
            let sync = spawn("sync", async move { late.sync().await.unwrap() });
            ringmq_rt::yield_now().await;
            let _ = second.write_at(&[block(2)], BLOCK as u64).await;
            sync.await;
        });
        sim.crash(CrashKind::PowerCut(Cache::Lost));
        let bytes = sim.disk().read_all("/log").unwrap();
        assert_eq!(bytes[0], 1, "seed {seed}");
        lost += u32::from(bytes[BLOCK] == 0);
    }
    assert!(lost > 30, "a write beside a sync must not count as flushed by it: {lost}");
}

#[test]
fn with_fua_a_commit_flushes_itself_alone() {
    for (fua, first) in [(false, 1), (true, 0)] {
        let sim = Sim::new(2);
        sim.disk().set_model(DiskModel { fua, ..DiskModel::default() });
        sim.run(async {
            let file = create("/log").await;
            file.write_at(&[block(1)], 0).await.unwrap();
            file.commit(&[block(2)], BLOCK as u64, fs::commit_method(Path::new("/")).await).await.unwrap();
        });
        sim.crash(CrashKind::PowerCut(Cache::Lost));
        let bytes = sim.disk().read_all("/log").unwrap();
        assert_eq!((bytes[0], bytes[BLOCK]), (first, 2));
    }
}

#[test]
fn a_new_name_is_durable_when_its_directory_is_synced() {
    let mut there = [0, 0];
    for seed in 0..100 {
        for (synced, count) in there.iter_mut().enumerate() {
            let sim = Sim::new(seed);
            sim.run(async {
                fs::create_dir_all(Path::new("/store/log")).await.unwrap();
                fs::sync_dir(Path::new("/")).await.unwrap();
                fs::sync_dir(Path::new("/store")).await.unwrap();
                let file = File::create(Path::new("/store/log/0")).await.unwrap();
                file.commit(&[block(1)], 0, CommitMethod::Thread).await.unwrap();
                if synced == 1 {
                    fs::sync_dir(Path::new("/store/log")).await.unwrap();
                }
            });
            sim.crash(CrashKind::PowerCut(Cache::Random));
            sim.restart();
            let names = sim.run(async { fs::read_dir(Path::new("/store/log")).await.unwrap() });
            *count += names.len();
            assert!(names.is_empty() || sim.disk().read_all("/store/log/0").unwrap() == [1; BLOCK]);
        }
    }
    assert!((20..80).contains(&there[0]) && there[1] == 100, "{there:?}");
}

/// Runs `replace` up to each step, crashes, and looks for a whole table under the name or beside it.
fn replace_is_atomic(keep_bak: bool) {
    let path = Path::new("/config/topics.json");
    let (old, new) = (vec![b'o'; 10_000], vec![b'n'; 5_000]);
    let (mut olds, mut news) = (0, 0);
    for (seed, kind) in (0..8).flat_map(|seed| CUTS.map(|kind| (seed, kind))) {
        let mut steps = 0;
        loop {
            let sim = Sim::new(seed);
            sim.disk().write_all(path, &old).unwrap();
            let run = sim.run_steps(steps, fs::replace(path, new.clone(), keep_bak));
            sim.crash(kind);
            let bytes = sim.disk().read_all(path).unwrap();
            assert!(bytes == old || bytes == new, "seed {seed} {kind:?} step {steps}: neither old nor new");
            if let Ended::Done(result) = run {
                result.unwrap();
                assert_eq!(bytes, new, "replaced is durable, seed {seed} {kind:?}");
                if keep_bak {
                    assert_eq!(sim.disk().read_all("/config/topics.json.bak").unwrap(), old);
                }
                break;
            }
            *(if bytes == old { &mut olds } else { &mut news }) += 1;
            steps += 1;
        }
        assert!(steps > 8, "the crash should fall between the steps of replace");
    }
    assert!(olds > 0 && news > 0, "{olds} {news}");
}

#[test]
fn replace_leaves_the_old_or_the_new_at_every_step() {
    replace_is_atomic(false);
    replace_is_atomic(true);
}

#[test]
fn a_failed_sync_is_not_mended_by_another() {
    let sim = Sim::new(3);
    sim.run(async {
        let file = create("/log").await;
        file.commit(&[block(1)], 0, CommitMethod::Thread).await.unwrap();
        file.write_at(&[block(2)], 0).await.unwrap();
        sim.disk().fail_next_sync(Failure::Once);
        assert!(file.sync().await.is_err());
        file.sync().await.unwrap();
        assert_eq!(read_block(&file, 0).await, [2; BLOCK]);
    });
    sim.crash(CrashKind::PowerCut(Cache::Lost));
    assert_eq!(sim.disk().read_all("/log").unwrap(), [1; BLOCK]);
}

#[test]
fn failures_hit_the_request_that_was_planned() {
    let sim = Sim::new(4);
    let disk = sim.disk();
    sim.run(async {
        let (log, other) = (create("/log").await, create("/other").await);
        let path = Some(PathBuf::from("/log"));
        disk.inject(Fault { request: Request::Write, failure: Failure::Sticky, path, skip: 1 });
        log.write_at(&[block(1)], 0).await.unwrap();
        other.write_at(&[block(1)], 0).await.unwrap();
        assert!(log.write_at(&[block(2)], 0).await.is_err());
        assert!(log.commit(&[block(2)], 0, CommitMethod::Thread).await.is_err());
        other.write_at(&[block(2)], 0).await.unwrap();
        disk.heal();
        log.write_at(&[block(2)], 0).await.unwrap();

        disk.fail_next_read(Failure::Once);
        assert!(log.read_at(AlignedBuf::new(BLOCK).unwrap(), 0).await.is_err());
        assert_eq!(read_block(&log, 0).await, [2; BLOCK]);
    });
    assert_eq!(disk.stats().faults, 3);
}

#[test]
fn a_lying_flush_keeps_nothing() {
    let sim = Sim::new(5);
    sim.run(async {
        let file = create("/log").await;
        file.commit(&[block(1)], 0, CommitMethod::Thread).await.unwrap();
        sim.disk().fail_next_sync(Failure::Lie);
        file.commit(&[block(2)], 0, CommitMethod::Thread).await.unwrap();
    });
    sim.crash(CrashKind::PowerCut(Cache::Lost));
    assert_eq!(sim.disk().read_all("/log").unwrap(), [1; BLOCK]);
}

#[test]
fn a_full_device_refuses_and_has_room_again() {
    let sim = Sim::new(6);
    sim.disk().set_capacity(Some(4 * BLOCK as u64));
    sim.run(async {
        let file = create("/log").await;
        file.allocate(3 * BLOCK as u64).await.unwrap();
        assert_eq!(fs::space(Path::new("/")).await.unwrap().free, BLOCK as u64);
        let full = file.allocate(5 * BLOCK as u64).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let full = file.write_at(&[blocks(1, 2)], 3 * BLOCK as u64).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        drop(file);
        fs::remove(Path::new("/log")).await.unwrap();
        fs::remove(Path::new("/log")).await.unwrap();
        create("/next").await.allocate(4 * BLOCK as u64).await.unwrap();
    });
}

#[test]
fn a_renamed_file_has_one_name_whenever_the_power_goes() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        sim.run(async {
            let file = create("/old").await;
            file.commit(&[block(5)], 0, CommitMethod::Thread).await.unwrap();
            fs::sync_dir(Path::new("/")).await.unwrap();
            fs::rename(Path::new("/old"), Path::new("/new")).await.unwrap();
            let gone = fs::rename(Path::new("/old"), Path::new("/other")).await.unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        });
        sim.crash(CrashKind::PowerCut(Cache::Random));
        let there: Vec<_> = ["/old", "/new"].iter().filter_map(|name| sim.disk().read_all(name).ok()).collect();
        assert_eq!(there, [[5; BLOCK]], "seed {seed}");
    }
}

#[test]
fn a_stall_delays_and_decay_shows() {
    let sim = Sim::new(7);
    sim.run(async {
        let file = create("/log").await;
        let start = now();
        sim.disk().stall(Duration::from_secs(30));
        file.commit(&[block(0xf0)], 0, CommitMethod::Thread).await.unwrap();
        assert!(now().since(start) >= Duration::from_secs(30));
        sim.disk().corrupt("/log", 100, 1).unwrap();
        let bytes = read_block(&file, 0).await;
        assert_eq!((bytes[99], bytes[100], bytes[101]), (0xf0, 0x0f, 0xf0));
    });
}

#[test]
fn requests_that_are_not_aligned_are_refused() {
    let sim = Sim::new(8);
    sim.run(async {
        let file = create("/log").await;
        for (part, offset) in [(block(1).cut(0..512), 0), (block(1), 512)] {
            let refused = file.write_at(&[part], offset).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_lock_ends_with_its_process() {
    let sim = Sim::new(9);
    let dir = Path::new("/store");
    sim.run(async {
        fs::create_dir_all(dir).await.unwrap();
        fs::sync_dir(Path::new("/")).await.unwrap();
        let lock = fs::lock_dir(dir).await.unwrap().unwrap();
        assert_eq!(fs::lock_dir(dir).await.unwrap().unwrap_err(), "1000");
        drop(lock);
        let lock = fs::lock_dir(dir).await.unwrap().unwrap();
        spawn("holder", async move {
            std::future::pending::<()>().await;
            drop(lock);
        })
        .detach();
        ringmq_rt::yield_now().await;
    });
    sim.crash(CrashKind::PowerCut(Cache::Random));
    sim.restart();
    sim.run(async { fs::lock_dir(dir).await.unwrap().unwrap() });
}

#[test]
fn a_disk_outlives_its_world() {
    let disk = Disk::new(1);
    let first = Sim::on_disk(disk.clone(), 1);
    first.run(async { fs::replace(Path::new("/a"), b"one".to_vec(), false).await.unwrap() });
    let ended = first.now();
    drop(first);
    let second = Sim::on_disk(disk, 2);
    assert!(second.now() > ended, "time goes on");
    let read = second.run(async {
        let too_long = fs::read(Path::new("/a"), 2).await.unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(fs::read(Path::new("/b"), 2).await.unwrap(), None);
        fs::read(Path::new("/a"), 3).await.unwrap()
    });
    assert_eq!(read.unwrap(), b"one");
}
