use super::*;

const HOUR_MS: i64 = 3_600_000;
const GIB: u64 = 1 << 30;

fn policy() -> Policy {
    Policy::default()
}

/// Segments of a GiB that were full so many hours before the present.
fn aged(hours: &[i64]) -> Vec<SegmentInfo> {
    (0_u64..)
        .zip(hours)
        .map(|(n, hours)| SegmentInfo { base: n * GIB, end: (n + 1) * GIB, last_store_ms: (1000 - hours) * HOUR_MS })
        .collect()
}

fn at(hour: u32, used_percent: u64) -> Situation {
    let space = Some(Space { total: 100 * GIB, free: (100 - used_percent) * GIB });
    Situation { now_ms: 1000 * HOUR_MS, hour, space, manual: false, logs: 1, floor: None }
}

fn decided(situation: &Situation, segments: &[SegmentInfo]) -> Option<(u64, Why)> {
    decide(&policy(), situation, segments).map(|d| {
        assert!(d.before.is_multiple_of(GIB), "segments go whole");
        (d.before / GIB, d.why)
    })
}

#[test]
fn expired_segments_go_at_their_hour_on_a_full_disk_or_by_hand() {
    let segments = aged(&[100, 73, 72, 71, 1]);
    assert_eq!(decided(&at(3, 75), &segments), None, "neither the hour nor full");
    assert_eq!(decided(&at(4, 10), &segments), Some((3, Why::Hour)));
    assert_eq!(decided(&at(3, 76), &segments), Some((3, Why::Full)));
    let manual = Situation { manual: true, ..at(3, 10) };
    assert_eq!(decided(&manual, &segments), Some((3, Why::Manual)));
    assert_eq!(decided(&at(4, 80), &aged(&[71, 70])), None, "nothing is old enough");
    let unknown = Situation { space: None, ..at(3, 0) };
    assert_eq!(decided(&unknown, &segments), None);
}

#[test]
fn a_later_segment_does_not_go_in_front_of_an_earlier_one() {
    assert_eq!(decided(&at(4, 10), &aged(&[71, 100, 100])), None);
}

#[test]
fn at_most_a_batch_goes_at_a_time() {
    assert_eq!(decided(&at(4, 10), &aged(&[100; 30])), Some((10, Why::Hour)));
}

#[test]
fn a_disk_that_is_nearly_full_loses_its_oldest_segments_and_no_more_than_it_must() {
    let young = aged(&[5, 4, 3, 2, 1]);
    assert_eq!(decided(&at(3, 85), &young), None);
    assert_eq!(decided(&at(3, 88), &young), Some((3, Why::Forced)));
    let shared = Situation { logs: 3, ..at(3, 88) };
    assert_eq!(decided(&shared, &young), Some((1, Why::Forced)), "each log its share");
    let not = Policy { may_force: false, ..policy() };
    assert_eq!(decide(&not, &at(3, 95), &young), None);
    // Expired ones go as far as there are any, however little is needed.
    assert_eq!(decided(&at(3, 86), &aged(&[90, 90, 90, 1])), Some((3, Why::Forced)));
}

#[test]
fn what_is_still_needed_stays_unless_the_disk_is_nearly_full() {
    let segments = aged(&[100, 100, 100]);
    let floored = |used| Situation { floor: Some(GIB + 5), ..at(4, used) };
    assert_eq!(decided(&floored(10), &segments), Some((1, Why::Hour)));
    let forced = decide(&policy(), &floored(87), &segments).unwrap();
    assert_eq!((forced.before, forced.below_floor), (2 * GIB, true));
    assert!(!decide(&policy(), &floored(10), &segments).unwrap().below_floor);
}

#[test]
fn what_goes_next_is_what_expires_soon_and_the_oldest_where_the_disk_is_nearly_full() {
    let floored = |floor, used| Situation { floor: Some(floor), ..at(3, used) };
    let segments = |situation: &Situation, hours: &[i64]| next(&policy(), situation, &aged(hours)) / GIB;
    assert_eq!(segments(&at(3, 10), &[100, 67, 66, 65, 64]), 3, "six hours of three days before, whatever the hour");
    assert_eq!(segments(&at(4, 10), &[65, 64]), 0);
    assert_eq!(segments(&at(3, 79), &[5, 4]), 0);
    assert_eq!(segments(&at(3, 81), &[5, 4]), 1);
    assert_eq!(segments(&at(3, 81), &[70, 67, 4]), 2);
    assert_eq!(segments(&at(3, 81), &[]), 0);
    let not = Policy { may_force: false, ..policy() };
    assert_eq!(next(&not, &at(3, 95), &aged(&[5, 4])), 0);
    assert_eq!(segments(&floored(GIB + 5, 10), &[70, 70, 70]), 1, "what is still needed does not go");
    assert_eq!(segments(&floored(5, 81), &[70, 70]), 1, "unless it is forced");
    let unknown = Situation { space: None, ..at(3, 0) };
    assert_eq!(segments(&unknown, &[70, 5]), 1);
}

#[test]
fn hours_are_read_as_rocketmq_writes_them() {
    assert_eq!(Hours::parse("04"), Hours::parse("4"));
    let two = Hours::parse("04;16").unwrap();
    assert!(two.contains(4) && two.contains(16) && !two.contains(5));
    assert!((0..24).all(|hour| Hours::parse("*").unwrap().contains(hour)));
    for bad in ["", ";", "24", "4,16", "noon", "-1"] {
        assert_eq!(Hours::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_hour_is_the_local_one() {
    let zone = TimeZone::fixed(jiff::tz::offset(8));
    assert_eq!(hour_of(1_700_064_000_000, &zone), 0);
    assert_eq!(hour_of(1_700_064_000_000 - 1, &zone), 23);
    assert_eq!(hour_of(1_700_064_000_000, &TimeZone::UTC), 16);
}
