//! A plan as text: `name value` lines for the setting, then `time_us verb name=value …` lines. `#` starts a comment.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::plan::{Ask, Fault, Item, Plan, Setting};

/// Why a text is no plan; nothing was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for (name, number) in self.setting.clone().fields() {
            writeln!(f, "{name} {number}")?;
        }
        for (at_us, item) in &self.items {
            writeln!(f, "{at_us} {item}")?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self { seed: 0, setting: Setting::calm(3), items: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                take_line(&mut plan, line).map_err(|what| PlanError { line: index + 1, what })?;
            }
        }
        Ok(plan.sorted())
    }
}

fn take_line(plan: &mut Plan, line: &str) -> Result<(), String> {
    let (first, rest) = line.split_once(' ').ok_or("one word alone")?;
    if let Ok(at_us) = first.parse() {
        plan.items.push((at_us, parse_item(rest)?));
        return Ok(());
    }
    let number = rest.trim().parse().map_err(|_| format!("{first}: no number"))?;
    if first == "seed" {
        plan.seed = number;
        return Ok(());
    }
    let mut fields = plan.setting.fields();
    let field = fields.iter_mut().find(|(name, _)| *name == first).ok_or_else(|| format!("{first}: unknown"))?;
    *field.1 = number;
    Ok(())
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ask { client, ask } => write_ask(f, client, ask),
            Self::Hangup { client } => write!(f, "hangup client={client}"),
            Self::Deaf { client, ms } => write!(f, "deaf client={client} ms={ms}"),
            Self::Move { client, node } => write!(f, "move client={client} node={node}"),
            Self::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

fn write_ask(f: &mut fmt::Formatter<'_>, client: u64, ask: Ask) -> fmt::Result {
    match ask {
        Ask::Set { key, token, pad, ttl_ms } => {
            write!(f, "set client={client} key={key} token={token} pad={pad} ttl_ms={ttl_ms}")
        }
        Ask::Get { key } => write!(f, "get client={client} key={key}"),
        Ask::Del { key } => write!(f, "del client={client} key={key}"),
        Ask::Ttl { key } => write!(f, "ttl client={client} key={key}"),
        Ask::Wait { copies, ms } => write!(f, "wait client={client} copies={copies} ms={ms}"),
        Ask::Token => write!(f, "token client={client}"),
        Ask::WaitFor { from, ms } => write!(f, "waitfor client={client} from={from} ms={ms}"),
        Ask::Why { key } => write!(f, "why client={client} key={key}"),
        Ask::Conflicts => write!(f, "conflicts client={client}"),
        Ask::Add { counter, amount } => write!(f, "add client={client} counter={counter} amount={amount}"),
        Ask::Start { counter, at, ttl_ms } => {
            write!(f, "start client={client} counter={counter} at={at} ttl_ms={ttl_ms}")
        }
        Ask::Clear { counter } => write!(f, "clear client={client} counter={counter}"),
        Ask::Sum { counter } => write!(f, "sum client={client} counter={counter}"),
        Ask::Flush => write!(f, "flush client={client}"),
        Ask::Drop { hash } => write!(f, "drop client={client} hash={hash}"),
        Ask::Ping => write!(f, "ping client={client}"),
        Ask::Stats => write!(f, "stats client={client}"),
        Ask::Subscribe => write!(f, "subscribe client={client}"),
        Ask::Publish { token, pad } => write!(f, "publish client={client} token={token} pad={pad}"),
        Ask::Leave => write!(f, "leave client={client}"),
        Ask::Forget { node } => write!(f, "forget client={client} node={node}"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Partition { side, ms } => write!(f, "partition side={side} ms={ms}"),
            Self::Cut { from, to, ms } => write!(f, "cut from={from} to={to} ms={ms}"),
            Self::Stall { from, to, ms } => write!(f, "stall from={from} to={to} ms={ms}"),
            Self::Slow { from, to, ms, factor } => write!(f, "slow from={from} to={to} ms={ms} factor={factor}"),
            Self::Thin { from, to, ms, us } => write!(f, "thin from={from} to={to} ms={ms} us={us}"),
            Self::Garble { from, to } => write!(f, "garble from={from} to={to}"),
            Self::Intrude { node, kind, bytes, ms } => {
                write!(f, "intrude node={node} kind={kind} bytes={bytes} ms={ms}")
            }
            Self::Reset { from, to } => write!(f, "reset from={from} to={to}"),
            Self::HalfOpen { from, to } => write!(f, "halfopen from={from} to={to}"),
            Self::Kill { node, ms, silent, alone } => {
                write!(f, "kill node={node} ms={ms} silent={} alone={}", u8::from(silent), u8::from(alone))
            }
            Self::Pause { node, ms } => write!(f, "pause node={node} ms={ms}"),
            Self::Supersede { node, ms } => write!(f, "supersede node={node} ms={ms}"),
            Self::Clock { node, step_ms, drift_ppm } => {
                write!(f, "clock node={node} step_ms={step_ms} drift_ppm={drift_ppm}")
            }
            Self::Rot { node, key } => write!(f, "rot node={node} key={key}"),
            Self::Crash { node, ms } => write!(f, "crash node={node} ms={ms}"),
            Self::DiskFull { node, ms } => write!(f, "disk_full node={node} ms={ms}"),
            Self::DiskFail { node, kind, ms } => write!(f, "disk_fail node={node} kind={kind} ms={ms}"),
            Self::DiskSlow { node, ms, us } => write!(f, "disk_slow node={node} ms={ms} us={us}"),
            Self::Flip { node, bit } => write!(f, "flip node={node} bit={bit}"),
            Self::Backup { node } => write!(f, "backup node={node}"),
            Self::Restore { node, ms } => write!(f, "restore node={node} ms={ms}"),
            Self::Rollback { node, ms } => write!(f, "rollback node={node} ms={ms}"),
        }
    }
}

/// The `name=value` words of a line.
struct Words<'a>(BTreeMap<&'a str, i64>);

impl Words<'_> {
    fn signed(&self, name: &str) -> Result<i64, String> {
        self.0.get(name).copied().ok_or_else(|| format!("{name} is missing"))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.signed(name)?.try_into().map_err(|_| format!("{name} is negative"))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        Ok(self.signed(name)? != 0)
    }
}

fn parse_item(text: &str) -> Result<Item, String> {
    let mut parts = text.split_whitespace();
    let verb = parts.next().ok_or("no verb")?;
    let words = parts.map(|part| {
        let (name, number) = part.split_once('=').ok_or_else(|| format!("{part}: no `=`"))?;
        Ok((name, number.parse().map_err(|_| format!("{part}: no number"))?))
    });
    let words = Words(words.collect::<Result<_, String>>()?);
    let n = |name| words.number(name);
    let ask = |ask| -> Result<Item, String> { Ok(Item::Ask { client: words.number("client")?, ask }) };
    Ok(match verb {
        "set" => ask(Ask::Set { key: n("key")?, token: n("token")?, pad: n("pad")?, ttl_ms: n("ttl_ms")? })?,
        "get" => ask(Ask::Get { key: n("key")? })?,
        "del" => ask(Ask::Del { key: n("key")? })?,
        "ttl" => ask(Ask::Ttl { key: n("key")? })?,
        "wait" => ask(Ask::Wait { copies: n("copies")?, ms: n("ms")? })?,
        "token" => ask(Ask::Token)?,
        "waitfor" => ask(Ask::WaitFor { from: n("from")?, ms: n("ms")? })?,
        "why" => ask(Ask::Why { key: n("key")? })?,
        "conflicts" => ask(Ask::Conflicts)?,
        "add" => ask(Ask::Add { counter: n("counter")?, amount: words.signed("amount")? })?,
        "start" => ask(Ask::Start { counter: n("counter")?, at: n("at")?, ttl_ms: n("ttl_ms")? })?,
        "clear" => ask(Ask::Clear { counter: n("counter")? })?,
        "sum" => ask(Ask::Sum { counter: n("counter")? })?,
        "flush" => ask(Ask::Flush)?,
        "drop" => ask(Ask::Drop { hash: n("hash")? })?,
        "ping" => ask(Ask::Ping)?,
        "stats" => ask(Ask::Stats)?,
        "subscribe" => ask(Ask::Subscribe)?,
        "publish" => ask(Ask::Publish { token: n("token")?, pad: n("pad")? })?,
        "leave" => ask(Ask::Leave)?,
        "forget" => ask(Ask::Forget { node: n("node")? })?,
        "hangup" => Item::Hangup { client: n("client")? },
        "deaf" => Item::Deaf { client: n("client")?, ms: n("ms")? },
        "move" => Item::Move { client: n("client")?, node: n("node")? },
        _ => Item::Fault(parse_fault(verb, &words)?),
    })
}

fn parse_fault(verb: &str, words: &Words<'_>) -> Result<Fault, String> {
    let n = |name| words.number(name);
    Ok(match verb {
        "partition" => Fault::Partition { side: n("side")?, ms: n("ms")? },
        "cut" => Fault::Cut { from: n("from")?, to: n("to")?, ms: n("ms")? },
        "stall" => Fault::Stall { from: n("from")?, to: n("to")?, ms: n("ms")? },
        "slow" => Fault::Slow { from: n("from")?, to: n("to")?, ms: n("ms")?, factor: n("factor")? },
        "thin" => Fault::Thin { from: n("from")?, to: n("to")?, ms: n("ms")?, us: n("us")? },
        "garble" => Fault::Garble { from: n("from")?, to: n("to")? },
        "intrude" => Fault::Intrude { node: n("node")?, kind: n("kind")?, bytes: n("bytes")?, ms: n("ms")? },
        "reset" => Fault::Reset { from: n("from")?, to: n("to")? },
        "halfopen" => Fault::HalfOpen { from: n("from")?, to: n("to")? },
        "kill" => {
            Fault::Kill { node: n("node")?, ms: n("ms")?, silent: words.flag("silent")?, alone: words.flag("alone")? }
        }
        "pause" => Fault::Pause { node: n("node")?, ms: n("ms")? },
        "supersede" => Fault::Supersede { node: n("node")?, ms: n("ms")? },
        "clock" => {
            Fault::Clock { node: n("node")?, step_ms: words.signed("step_ms")?, drift_ppm: words.signed("drift_ppm")? }
        }
        "rot" => Fault::Rot { node: n("node")?, key: n("key")? },
        "crash" => Fault::Crash { node: n("node")?, ms: n("ms")? },
        "disk_full" => Fault::DiskFull { node: n("node")?, ms: n("ms")? },
        "disk_fail" => Fault::DiskFail { node: n("node")?, kind: n("kind")?, ms: n("ms")? },
        "disk_slow" => Fault::DiskSlow { node: n("node")?, ms: n("ms")?, us: n("us")? },
        "flip" => Fault::Flip { node: n("node")?, bit: n("bit")? },
        "backup" => Fault::Backup { node: n("node")? },
        "restore" => Fault::Restore { node: n("node")?, ms: n("ms")? },
        "rollback" => Fault::Rollback { node: n("node")?, ms: n("ms")? },
        _ => return Err(format!("{verb}: unknown")),
    })
}
