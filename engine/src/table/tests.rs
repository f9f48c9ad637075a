use std::collections::BTreeMap;

use ringmq_rt::sim::{Cache, CrashKind, Sim};

use super::*;

type Table = BTreeMap<String, u32>;

fn table(n: u32) -> Table {
    BTreeMap::from([("n".to_owned(), n)])
}

#[test]
fn a_table_is_old_or_new_whenever_the_power_goes() {
    let path = Path::new("/topics.json");
    let mut found = [false; 2];
    for steps in 0..60 {
        let sim = Sim::new(steps);
        sim.run(async { save(path, &table(1)).await.unwrap() });
        // Stopped before it is done, or not: both are what the power cut meets.
        let _ = sim.run_steps(steps, async { save(path, &table(2)).await });
        sim.crash(CrashKind::PowerCut(Cache::Random));
        sim.restart();
        let there: Table = sim.run(async { load(path).await.unwrap().unwrap() });
        assert!(there == table(1) || there == table(2), "{there:?}");
        found[usize::from(there == table(2))] = true;
    }
    assert_eq!(found, [true, true], "both must have been met");
}

#[test]
fn a_damaged_table_falls_back_to_its_copy_and_two_damaged_ones_are_an_error() {
    let sim = Sim::new(1);
    let (path, disk) = (Path::new("/topics.json"), sim.disk());
    sim.run(async {
        assert_eq!(load::<Table>(path).await.unwrap(), None);
        save(path, &table(1)).await.unwrap();
        save(path, &table(2)).await.unwrap();
        assert_eq!(load::<Table>(path).await.unwrap(), Some(table(2)));
        disk.corrupt("/topics.json", 0, 1).unwrap();
        assert_eq!(load::<Table>(path).await.unwrap(), Some(table(1)));
        disk.corrupt("/topics.json.bak", 0, 1).unwrap();
        assert!(matches!(load::<Table>(path).await, Err(OpenError::Table { .. })));
    });
}
