//! What came of a load, for people and for programs.

use serde_json::{Map, Value, json};

use super::driver::Outcome;
use super::options::{BenchOptions, Distribution};
use super::workload::Operation;

/// Which latencies are told.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// A closed load that keeps its own core busier than this may not be what the server could answer.
const BUSY_SHARE: f64 = 0.95;

/// For people, what is asked, and the heads of the columns.
pub(crate) fn heading(options: &BenchOptions) -> String {
    let BenchOptions { server, connections, pipeline, keys, value_size, .. } = options;
    let load = match options.rate {
        Some(rate) => format!("open load, {rate} requests due a second; latency from when each was due"),
        None => "closed load; latency from when each request was sent".to_owned(),
    };
    let distribution = match options.distribution {
        Distribution::Uniform => "uniform".to_owned(),
        Distribution::Zipf => format!("zipf {}", options.exponent),
    };
    let heads: String = PERCENTILES.iter().map(|(name, _)| format!("{name:>10}")).collect();
    format!(
        "{server} by {}{}, {connections} connections, {pipeline} deep, {keys} keys ({distribution}), \
         values of {value_size} bytes\n{load}, in ms\n\n\
         {:8}{:>12}{:>12}{:>9}{:>9}{heads}\n",
        options.protocol.name(),
        if options.tls.tls { " over TLS" } else { "" },
        "",
        "a second",
        "succeeded",
        "absent",
        "refused",
    )
}

/// For people, a line of the table, and what else is to be known.
pub(crate) fn text(options: &BenchOptions, operation: Operation, outcome: &Outcome) -> String {
    let latencies: String = PERCENTILES
        .iter()
        .map(|(_, quantile)| match latency_us(outcome, *quantile) {
            Some(us) => format!("{:>10.3}", us / 1e3),
            None => format!("{:>10}", "-"),
        })
        .collect();
    let Outcome { succeeded, absent, refused, unanswered, unsent, .. } = outcome;
    let mut text = format!(
        "{:8}{:>12.0}{succeeded:>12}{absent:>9}{refused:>9}{latencies}\n",
        operation.name(),
        per_second(outcome)
    );
    let mut note = |note: String| text += &format!("  {note}\n");
    if *unanswered > 0 {
        note(format!("{unanswered} requests were not answered"));
    }
    if *unsent > 0 {
        note(format!("{unsent} requests were due and not sent before the end: those before them were not answered"));
    }
    if options.rate.is_none() && outcome.busy > BUSY_SHARE {
        let percent = outcome.busy * 100.0;
        note(format!("the load itself took {percent:.0} % of a core: the server may answer more; try --threads"));
    }
    text
}

/// For programs, one line.
pub(crate) fn json(options: &BenchOptions, operation: Operation, outcome: &Outcome) -> String {
    let mut latencies = Map::new();
    for (name, quantile) in PERCENTILES {
        latencies.insert(name.to_owned(), json!(latency_us(outcome, quantile)));
    }
    let mean = (!outcome.latencies.is_empty()).then(|| outcome.latencies.mean() / 1e3);
    latencies.insert("mean".to_owned(), json!(mean));
    let timed = |seconds: f64| if options.requests.is_some() { Value::Null } else { json!(seconds) };
    let line = json!({
        "server": options.server,
        "operation": operation.name(),
        "protocol": options.protocol.name(),
        "tls": options.tls.tls,
        "connections": options.connections,
        "pipeline": options.pipeline,
        "threads": options.threads,
        "keys": options.keys,
        "distribution": options.distribution.name(),
        "exponent": (options.distribution == Distribution::Zipf).then_some(options.exponent),
        "value_bytes": options.value_size,
        "reads_percent": (operation == Operation::Mixed).then_some(options.reads),
        "rate": options.rate,
        "warm_up_seconds": timed(options.warm_up),
        "asked_seconds": timed(options.seconds),
        "seconds": outcome.took.as_secs_f64(),
        "succeeded": outcome.succeeded,
        "absent": outcome.absent,
        "late": outcome.late,
        "refused": outcome.refused,
        "first_refusal": outcome.first_refusal,
        "unanswered": outcome.unanswered,
        "unsent": outcome.unsent,
        "per_second": per_second(outcome),
        "latency_us": latencies,
        "load_cpu": outcome.busy,
    });
    format!("{line}\n")
}

/// Why a load is a failure, although it was measured.
pub(crate) fn complaint(operation: Operation, outcome: &Outcome) -> Option<String> {
    let Outcome { succeeded, refused, unanswered, first_refusal, .. } = outcome;
    let operation = operation.name();
    let said = first_refusal.as_deref().unwrap_or_default().escape_debug();
    match (*refused, *unanswered) {
        (0, 0) => None,
        (0, _) if first_refusal.is_some() => Some(format!(
            "did not answer {unanswered} requests of {operation}, and refused some in the warm-up; the first: {said}"
        )),
        (0, _) => Some(format!("did not answer {unanswered} requests of {operation}; see its log")),
        _ => Some(format!("refused {refused} requests of {operation}, and answered {succeeded}; the first: {said}")),
    }
}

fn per_second(outcome: &Outcome) -> f64 {
    (outcome.succeeded - outcome.late) as f64 / outcome.took.as_secs_f64().max(1e-9)
}

/// In microseconds; none if nothing was measured.
fn latency_us(outcome: &Outcome, quantile: f64) -> Option<f64> {
    let latencies = &outcome.latencies;
    (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::options;
    use super::*;

    /// 99 requests that took a millisecond, and one that took ten, in a second; ten were refused.
    fn outcome() -> Outcome {
        let mut outcome = Outcome::new();
        (0..99).for_each(|_| outcome.latencies.saturating_record(1_000_000));
        outcome.latencies.saturating_record(10_000_000);
        outcome.succeeded = 100;
        outcome.absent = 7;
        outcome.refused = 10;
        outcome.first_refusal = Some("ERR no\n".to_owned());
        outcome.took = Duration::from_secs(1);
        outcome
    }

    #[test]
    fn refusals_are_told_and_are_no_successes() {
        let (options, outcome) = (options(&[]), outcome());
        let line: Value = serde_json::from_str(&json(&options, Operation::Get, &outcome)).unwrap();
        assert_eq!(line["per_second"], json!(100.0));
        assert_eq!([&line["succeeded"], &line["absent"], &line["refused"]], [100, 7, 10]);
        assert_eq!(line["first_refusal"], "ERR no\n");
        let complaint = complaint(Operation::Get, &outcome).unwrap();
        assert_eq!(complaint, "refused 10 requests of get, and answered 100; the first: ERR no\\n");
        let row = text(&options, Operation::Get, &outcome);
        assert!(row.starts_with("get              100         100        7       10     1.0"), "{row:?}");
    }

    #[test]
    fn percentiles_are_right_to_a_thousandth() {
        let (options, outcome) = (options(&[]), outcome());
        let line: Value = serde_json::from_str(&json(&options, Operation::Get, &outcome)).unwrap();
        for (name, us) in
            [("p50", 1_000.0), ("p99", 1_000.0), ("p99.9", 10_000.0), ("max", 10_000.0), ("mean", 1_090.0)]
        {
            let told = line["latency_us"][name].as_f64().unwrap();
            assert!((told / us - 1.0).abs() <= 1e-3, "{name}: {told} instead of {us}");
        }
        let nothing: Value = serde_json::from_str(&json(&options, Operation::Get, &Outcome::new())).unwrap();
        assert_eq!(nothing["latency_us"]["p50"], Value::Null);
    }

    #[test]
    fn heads_stand_above_their_columns() {
        let (options, outcome) = (options(&["--rate", "5"]), outcome());
        let heading = heading(&options);
        let heads = heading.lines().last().unwrap();
        let row = text(&options, Operation::Get, &outcome);
        assert_eq!(heads.len(), row.lines().next().unwrap().len(), "{heading}{row}");
        assert!(heading.contains("5 requests due a second"), "{heading}");
    }

    #[test]
    fn what_makes_figures_doubtful_is_told() {
        let closed = options(&[]);
        let open = options(&["--rate", "5"]);
        let mut outcome = Outcome::new();
        assert_eq!(text(&closed, Operation::Set, &outcome).lines().count(), 1);
        outcome.busy = 0.99;
        assert!(text(&closed, Operation::Set, &outcome).contains("the load itself took 99 % of a core"));
        assert_eq!(text(&open, Operation::Set, &outcome).lines().count(), 1);
        outcome.unsent = 3;
        assert!(text(&open, Operation::Set, &outcome).contains("3 requests were due and not sent"));
        assert_eq!(complaint(Operation::Set, &outcome), None);
        outcome.unanswered = 2;
        assert!(text(&open, Operation::Set, &outcome).contains("2 requests were not answered"));
        assert!(complaint(Operation::Set, &outcome).unwrap().contains("2 requests of set"));
        outcome.first_refusal = Some("ERR no".to_owned());
        assert!(complaint(Operation::Set, &outcome).unwrap().ends_with("the first: ERR no"));
    }
}
