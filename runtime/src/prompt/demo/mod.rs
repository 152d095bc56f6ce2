//! `simple-kv demo`: three real nodes, cut from each other and healed, told as it happens.
//!
//! `nodes` has the processes and the directory that they live in, `proxy` what they reach each other through: each
//! node is told to advertise the address of a proxy in this process, which lets nobody through while they are cut.

mod nodes;
mod proxy;

use std::time::{Duration, Instant};

use clap::Args;

use self::nodes::{Node, Stage};
use self::proxy::Proxy;
use super::interrupt::{Interrupt, Interrupted};
use super::paint::{ColorOption, Paint};
use super::print;
use crate::client::{Value, plain};
use crate::failure::Failure;

const NAMES: [&str; 3] = ["amsterdam", "berlin", "cairo"];
/// How long each step may take; all of them take a few seconds.
const STEP_WITHIN: Duration = Duration::from_secs(15);
/// Between two writes of which one is to be the later: a few ticks of a clock.
const APART: Duration = Duration::from_millis(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Args, Clone, Copy, Debug, PartialEq)]
pub(crate) struct DemoOptions {
    /// Leave the nodes running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    color: ColorOption,
}

/// Why the story ends before its end.
enum Stop {
    Interrupted,
    /// What was waited for, and what was seen instead.
    Failed(String),
}

impl From<Interrupted> for Stop {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// Tells the story. Whatever ends it, the nodes and their directory go.
pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(|error| Failure::System("wait for signals", error))?;
    let mut stage = Stage::open().map_err(|error| Failure::System("make a directory for the demo", error))?;
    let story = Story { interrupt: &interrupt, paint: options.color.paint() };
    let outcome = story.tell(&mut stage, options.keep);
    drop(stage);
    let failed = |what: &str| Err(Failure::Server("the demo".to_owned(), what.to_owned()));
    match outcome {
        Ok(()) => {
            story.say("The nodes are stopped, and what they kept is deleted.");
            Ok(())
        }
        Err(Stop::Interrupted) => failed("was interrupted; its nodes are stopped, and what they kept is deleted"),
        Err(Stop::Failed(what)) => failed(&format!("failed, and is cleaned up: {what}")),
    }
}

struct Story<'a> {
    interrupt: &'a Interrupt,
    paint: Paint,
}

impl Story<'_> {
    fn tell(&self, stage: &mut Stage, keep: bool) -> Result<(), Stop> {
        self.begin(stage)?;
        self.write(stage)?;
        self.cut(stage)?;
        self.heal(stage)?;
        self.kill(stage)?;
        if keep {
            self.heading("The nodes go on");
            for node in &stage.nodes {
                self.say(&format!("{}: simple-kv cli {}", node.name, node.address()));
            }
            self.say(&format!("What they keep and log is in {}. Ctrl-C ends it all.", stage.dir().display()));
            self.interrupt.wait_for_it();
        }
        Ok(())
    }

    fn begin(&self, stage: &mut Stage) -> Result<(), Stop> {
        self.heading("Three nodes");
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Stop::Failed(format!("cannot {what}: {error}"))
        };
        for _ in NAMES {
            stage.proxies.push(Proxy::open().map_err(failed("listen"))?);
        }
        for name in NAMES {
            stage.start(name).map_err(failed("start a node"))?;
        }
        for at in 0..NAMES.len() {
            self.listens(stage, at)?;
            let node = &stage.nodes[at];
            self.say(&format!("{} is process {}, on {}", node.name, node.pid(), node.address()));
        }
        let took = self.until("all three are linked", || linked(&stage.nodes, NAMES.len() - 1))?;
        self.say(&format!("They found each other after {}.", milliseconds(took)));
        Ok(())
    }

    fn listens(&self, stage: &mut Stage, at: usize) -> Result<(), Stop> {
        let address = self.interrupt.until(STEP_WITHIN, LOOK, || stage.nodes[at].look_for_address())?;
        let told = || Stop::Failed(format!("{} does not listen; it logged: {}", NAMES[at], stage.nodes[at].log()));
        let address = address.ok_or_else(told)?;
        stage.proxies[at].lead_to(address);
        Ok(())
    }

    fn write(&self, stage: &Stage) -> Result<(), Stop> {
        let [amsterdam, berlin, cairo] = three(stage);
        self.heading("What is written to one is on all");
        self.ask(amsterdam, "SET greeting hello")?;
        let took = self.until("the write is on cairo", || answers(cairo, "GET greeting", "hello"))?;
        self.shows(cairo, "GET greeting")?;
        self.say(&format!("It was there after {}.", milliseconds(took)));
        self.ask(berlin, "SET draft old")?;
        self.ask(berlin, "INCRBY visits 10")?;
        self.everywhere(stage, &[("GET draft", "old"), ("GET visits", "10")])?;
        Ok(())
    }

    fn cut(&self, stage: &Stage) -> Result<(), Stop> {
        let [amsterdam, berlin, cairo] = three(stage);
        self.heading("Cut from each other, all take writes");
        stage.proxies.iter().for_each(Proxy::cut);
        self.until("the links are gone", || linked(&stage.nodes, 0))?;
        self.say("No node reaches another.");
        self.ask(amsterdam, "SET colour red")?;
        self.ask(amsterdam, "INCRBY visits 5")?;
        self.ask(berlin, "INCRBY visits 7")?;
        self.ask(cairo, "INCRBY visits 3")?;
        // So that by either node's clock it is the later one.
        self.interrupt.wait(APART)?;
        self.ask(berlin, "SET colour green")?;
        self.ask(cairo, "DEL draft")?;
        self.shows(amsterdam, "GET draft")?;
        Ok(())
    }

    fn heal(&self, stage: &Stage) -> Result<(), Stop> {
        let [amsterdam, berlin, cairo] = three(stage);
        self.heading("Healed, they agree");
        stage.proxies.iter().for_each(Proxy::heal);
        let took = self.until("all hold the same", || {
            linked(&stage.nodes, NAMES.len() - 1)?;
            agree(&stage.nodes)
        })?;
        self.say(&format!("The same data on all three, {} after the cut ended.", milliseconds(took)));
        [amsterdam, berlin, cairo].into_iter().try_for_each(|node| self.shows(node, "GET visits"))?;
        self.everywhere(stage, &[("GET visits", "25")])?;
        self.say("Counters count: 10 + 5 + 7 + 3.");
        self.shows(amsterdam, "GET colour")?;
        self.everywhere(stage, &[("GET colour", "green")])?;
        self.say("Of two values the later one is everywhere; CONFLICTS lists the other.");
        self.shows(amsterdam, "GET draft")?;
        self.everywhere(stage, &[("GET draft", "(nil)")])?;
        self.say("What was deleted stays deleted, also where nobody had heard of it.");
        Ok(())
    }

    fn kill(&self, stage: &mut Stage) -> Result<(), Stop> {
        self.heading("One is killed, and comes back");
        let failed = |error: std::io::Error| Stop::Failed(format!("cannot start berlin again: {error}"));
        let begin = Instant::now();
        stage.restart(1).map_err(failed)?;
        self.listens(stage, 1)?;
        self.until("berlin is back", || linked(&stage.nodes, NAMES.len() - 1))?;
        self.everywhere(stage, &[("GET visits", "25"), ("GET draft", "(nil)"), ("GET greeting", "hello")])?;
        self.say(&format!(
            "berlin was killed, started again, and has all of it after {}.",
            milliseconds(begin.elapsed())
        ));
        self.shows(&stage.nodes[1], "GET visits")
    }

    /// Waits until each node answers each of these so.
    fn everywhere(&self, stage: &Stage, answered: &[(&str, &str)]) -> Result<(), Stop> {
        for node in &stage.nodes {
            for (command, answer) in answered {
                self.until(command, || answers(node, command, answer))?;
            }
        }
        Ok(())
    }

    /// Looks until `look` is content; answers how long that took.
    fn until(&self, what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<Duration, Stop> {
        let begin = Instant::now();
        let mut seen = String::new();
        let found = self.interrupt.until(STEP_WITHIN, LOOK, || look().map_err(|complaint| seen = complaint).ok())?;
        match found {
            Some(()) => Ok(begin.elapsed()),
            None => Err(Stop::Failed(format!("{what}: not within {} s: {seen}", STEP_WITHIN.as_secs()))),
        }
    }

    /// Has a node do something, and shows what it answers.
    fn ask(&self, node: &Node, command: &str) -> Result<(), Stop> {
        match ask(node, command).map_err(Stop::Failed)? {
            Value::Error(error) => Err(Stop::Failed(format!("{} answers {command}: {}", node.name, plain(&error)))),
            answer => {
                self.show(node, command, &shown(&answer));
                Ok(())
            }
        }
    }

    /// The same, of what changes nothing.
    fn shows(&self, node: &Node, command: &str) -> Result<(), Stop> {
        self.ask(node, command)
    }

    fn show(&self, node: &Node, command: &str, answer: &str) {
        let name = self.paint.faint(&format!("{:>9}>", node.name));
        print(format!("  {name} {command:<18} {}\n", self.paint.strong(answer)));
    }

    fn heading(&self, text: &str) {
        print(format!("\n{}\n", self.paint.good(text)));
    }

    fn say(&self, text: &str) {
        print(format!("  {text}\n"));
    }
}

fn three(stage: &Stage) -> [&Node; 3] {
    [&stage.nodes[0], &stage.nodes[1], &stage.nodes[2]]
}

fn milliseconds(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

fn ask(node: &Node, command: &str) -> Result<Value, String> {
    let words: Vec<&str> = command.split(' ').collect();
    node.ask(&words).map_err(|fault| format!("{} {fault}", node.name))
}

fn shown(answer: &Value) -> String {
    match answer {
        Value::Null => "(nil)".to_owned(),
        Value::Integer(number) => number.to_string(),
        other => plain(other.bytes().unwrap_or(b"?")),
    }
}

fn answers(node: &Node, command: &str, expected: &str) -> Result<(), String> {
    let answer = shown(&ask(node, command)?);
    if answer == expected { Ok(()) } else { Err(format!("{} answers {command} with {answer}", node.name)) }
}

/// Whether each node has links to so many others.
fn linked(nodes: &[Node], count: usize) -> Result<(), String> {
    for node in nodes {
        let stats = node.stats()?;
        let up = stats.peers.iter().filter(|peer| peer.state == "up").count();
        if up != count {
            return Err(format!("{} is linked to {up} others", node.name));
        }
    }
    Ok(())
}

/// Whether all nodes hold the same data.
fn agree(nodes: &[Node]) -> Result<(), String> {
    let digests = nodes.iter().map(|node| Ok(node.stats()?.digest)).collect::<Result<Vec<String>, String>>()?;
    if digests.windows(2).all(|pair| pair[0] == pair[1]) { Ok(()) } else { Err("their data differs".to_owned()) }
}
