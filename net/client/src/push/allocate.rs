//! Which queues are whose: RocketMQ's even split. Every member computes it for itself from the same two sorted lists, so
//! it must be what Java's clients in the same group compute (`AllocateMessageQueueAveragely`).

/// The part of `queues` that belongs to `me` among `members`; both sorted. Nothing for who is no member.
pub(super) fn averagely<'q, T>(queues: &'q [T], members: &[String], me: &str) -> &'q [T] {
    let Some(index) = members.iter().position(|member| member == me) else { return &[] };
    let (each, more) = (queues.len() / members.len(), queues.len() % members.len());
    // The first `more` members have one more.
    let first = index * each + index.min(more);
    let count = each + usize::from(index < more);
    &queues[first..first + count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_as_javas_do() {
        let members = |count: usize| (0..count).map(|i| format!("m{i}")).collect::<Vec<_>>();
        let split = |queues: usize, count: usize| {
            let queues: Vec<usize> = (0..queues).collect();
            let members = members(count);
            members.iter().map(|me| averagely(&queues, &members, me).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(split(4, 1), [vec![0, 1, 2, 3]]);
        assert_eq!(split(4, 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(split(5, 3), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(split(2, 3), [vec![0], vec![1], vec![]]);
        assert_eq!(split(0, 2), [vec![], vec![]]);
        assert!(averagely(&[1, 2], &members(2), "stranger").is_empty());
        assert!(averagely(&[1, 2], &[], "m0").is_empty());
    }
}
