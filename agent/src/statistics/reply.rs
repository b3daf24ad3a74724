//! The history as a manager gets it: columns of packed values, in parts that fit into messages.

use std::collections::VecDeque;

use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::{
    ContainerSeries, ContainerStatistics, HostStatistics, StatisticsEnd, StatisticsRequest,
};

use super::history::{History, Kept};

/// A container's hour takes 20 KiB at the very most and 5 KiB as a rule; this many fit into a message in any case.
const CONTAINERS_PER_REPLY: usize = 8;

/// Everything that was asked for.
pub(super) fn replies(history: &History, request: &StatisticsRequest) -> Vec<Reply> {
    let samples = history.times_ms.len();
    let since_ms = request.since_ms.unwrap_or_default();
    let wanted: Vec<usize> = (0..samples).filter(|at| history.times_ms[*at] > since_ms).collect();
    let mut replies = vec![Reply::HostStatistics(host(history, &wanted))];
    if !request.host_only {
        let containers = history.containers.iter();
        let series: Vec<ContainerSeries> =
            containers.map(|(id, kept)| container(id, kept, &wanted, samples)).collect();
        let parts = series.chunks(CONTAINERS_PER_REPLY);
        replies.extend(
            parts.map(|part| Reply::ContainerStatistics(ContainerStatistics { containers: part.to_vec() })),
        );
    }
    replies.push(Reply::StatisticsEnd(StatisticsEnd {}));
    replies
}

fn host(history: &History, wanted: &[usize]) -> HostStatistics {
    let column = |value: usize| column(&history.host, value, wanted, history.times_ms.len());
    HostStatistics {
        times_ms: differences(wanted.iter().map(|at| history.times_ms[*at])),
        cpu: column(0),
        memory_used_bytes: column(1),
        memory_total_bytes: column(2),
        disk_used_bytes: column(3),
        disk_total_bytes: column(4),
        received_bytes_per_second: column(5),
        sent_bytes_per_second: column(6),
        containers_left_out: u32::try_from(history.left_out).unwrap_or(u32::MAX),
    }
}

fn container(id: &str, kept: &Kept, wanted: &[usize], samples: usize) -> ContainerSeries {
    let column = |value: usize| column(&kept.rows, value, wanted, samples);
    ContainerSeries {
        id: id.to_owned(),
        name: kept.about.name.clone(),
        service: kept.about.service.clone(),
        task: kept.about.task.clone(),
        memory_limit_bytes: kept.memory_limit,
        cpu: column(0),
        memory_used_bytes: column(1),
        received_bytes_per_second: column(2),
        sent_bytes_per_second: column(3),
    }
}

/// One value of each wanted row. There may be fewer rows than samples: those of the newest ones.
fn column<const N: usize>(
    rows: &VecDeque<[u64; N]>,
    value: usize,
    wanted: &[usize],
    samples: usize,
) -> Vec<u64> {
    let missing = samples - rows.len();
    let packed = |at: &usize| at.checked_sub(missing).map_or(0, |row| rows[row][value]);
    wanted.iter().map(packed).collect()
}

/// A clock may be set back, so differences may be negative.
fn differences(times_ms: impl Iterator<Item = u64>) -> Vec<i64> {
    let mut before = 0;
    let difference = |time_ms: u64| {
        let time_ms = time_ms as i64;
        time_ms.wrapping_sub(std::mem::replace(&mut before, time_ms))
    };
    times_ms.map(difference).collect()
}

#[cfg(test)]
mod tests {
    use skep_wire::framing::{MESSAGE_BYTES_MAX, write_message};
    use skep_wire::proto::agent::AgentReply;
    use skep_wire::statistics::{CONTAINERS_SAMPLED_MAX, SAMPLES_MAX};

    use super::super::container::NAME_CHARS_MAX;
    use super::super::history::{About, CONTAINER_VALUES, HOST_VALUES, Sample, Seen};
    use super::*;

    fn seen(id: &str, cpu: u64) -> Seen {
        let about = About { name: format!("{id}-name"), service: "shop_web".into(), task: "t1".into() };
        Seen { id: id.into(), about, memory_limit: Some(5), values: [Some(cpu), None, Some(1), Some(2)] }
    }

    fn sample(at_ms: u64, containers: Vec<Seen>) -> Sample {
        Sample { at_ms, host: [Some(at_ms); HOST_VALUES], containers, left_out: Some(2) }
    }

    #[test]
    fn a_manager_gets_columns_that_fit_to_the_times() {
        let mut history = History::default();
        for (at, containers) in [(1000, vec![]), (900, vec![seen("a", 0)]), (3000, vec![seen("a", 7)])] {
            history.record(sample(at, containers));
        }
        let told = replies(&history, &StatisticsRequest::default());
        let [Reply::HostStatistics(host), Reply::ContainerStatistics(containers), Reply::StatisticsEnd(_)] =
            &told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!((&host.times_ms[..], host.containers_left_out), (&[1000, -100, 2100][..], 2));
        assert_eq!((&host.cpu[..], host.sent_bytes_per_second[2]), (&[1001, 901, 3001][..], 3001));
        let a = &containers.containers[0];
        assert_eq!((a.id.as_str(), a.name.as_str(), a.service.as_str()), ("a", "a-name", "shop_web"));
        assert_eq!((&a.cpu[..], &a.memory_used_bytes[..]), (&[0, 1, 8][..], &[0, 0, 0][..]));

        let later = replies(&history, &StatisticsRequest { since_ms: Some(1000), host_only: true });
        let [Reply::HostStatistics(host), Reply::StatisticsEnd(_)] = &later[..] else { panic!("{later:?}") };
        assert_eq!((&host.times_ms[..], &host.cpu[..]), (&[3000][..], &[3001][..]));
        assert_eq!(replies(&History::default(), &StatisticsRequest::default()).len(), 2);
    }

    #[tokio::test]
    async fn every_part_of_the_largest_history_fits_into_a_message() {
        let mut history = History::default();
        let long = "\u{10ffff}".repeat(NAME_CHARS_MAX);
        for at in 0..SAMPLES_MAX as u64 {
            let seen = |number: usize| Seen {
                id: format!("{number}{}", &long[4..]),
                about: About { name: long.clone(), service: long.clone(), task: long.clone() },
                memory_limit: Some(u64::MAX),
                values: [Some(u64::MAX); CONTAINER_VALUES],
            };
            let containers = (0..CONTAINERS_SAMPLED_MAX).map(seen).collect();
            let host = [Some(u64::MAX); HOST_VALUES];
            history.record(Sample { at_ms: at << 40, host, containers, left_out: Some(0) });
        }
        for reply in replies(&history, &StatisticsRequest::default()) {
            let reply = AgentReply { reply: Some(reply) };
            write_message(&mut tokio::io::sink(), &reply, MESSAGE_BYTES_MAX).await.expect("it fits");
        }
    }
}
