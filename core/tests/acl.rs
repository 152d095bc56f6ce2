//! Users of a whole node: logging in by each dialect, what they may do, and what holds up whom.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use kv_core::{Close, Config, ConnId, Event, Job, JobDone, JobId, Mono, Now, Tongue, Turn, WallMs};

const ANN: ConnId = ConnId(0);
const BOB: ConnId = ConnId(1);
const EVE: ConnId = ConnId(2);

/// A node, some clients, and who does aside what it asks for.
struct World {
    turn: Turn,
    ms: u64,
    /// Jobs that were asked for and are not done.
    jobs: Vec<JobId>,
    /// Passwords that were tried or hashed.
    computed: Vec<String>,
    file: Result<String, String>,
    closed: BTreeMap<ConnId, Close>,
}

impl World {
    /// One whose door is open.
    fn new() -> Self {
        let config = Config::new([1, 2, 3, 4], "a", "a:1");
        Self {
            turn: Turn::new(config, at(0)),
            ms: 0,
            jobs: Vec::new(),
            computed: Vec::new(),
            file: Err("it is not there".to_owned()),
            closed: BTreeMap::new(),
        }
    }

    /// One with these users, and clients who have not said a word.
    fn with(users: &str) -> Self {
        let mut world = Self::new();
        world.turn.load_users(hashed(users).as_bytes()).expect("a file of users");
        [ANN, BOB, EVE].into_iter().for_each(|conn| world.open(conn));
        world
    }

    fn open(&mut self, conn: ConnId) {
        self.turn.begin(at(self.ms));
        self.turn.event(Event::Opened { conn });
        let remote = format!("10.0.0.{}:7000", conn.0 % 250 + 1).parse().expect("an address");
        self.turn.introduce(conn, remote, "10.0.0.254:8080".parse().expect("an address"));
    }

    fn wait(&mut self, ms: u64) {
        self.ms += ms;
        self.turn.begin(at(self.ms));
        self.turn.settle();
        self.look();
    }

    /// Notes what is to be done, and who is ended.
    fn look(&mut self) {
        while let Some(job) = self.turn.take_job() {
            self.jobs.push(job);
        }
        for conn in (0..64).map(ConnId) {
            if let Some(why) = self.turn.finished(conn) {
                self.closed.insert(conn, why);
                self.turn.gone(conn);
            }
        }
    }

    /// Sends bytes; what is answered at once.
    fn send(&mut self, conn: ConnId, bytes: &[u8]) -> String {
        self.turn.begin(at(self.ms));
        self.turn.input(conn, bytes);
        self.turn.settle();
        self.told(conn)
    }

    /// What a client is told that it has not been.
    fn told(&mut self, conn: ConnId) -> String {
        let mut told = Vec::new();
        loop {
            let output = self.turn.output(conn).to_vec();
            if output.is_empty() {
                self.look();
                return String::from_utf8_lossy(&told).into_owned();
            }
            told.extend_from_slice(&output);
            self.turn.sent(conn, output.len());
        }
    }

    /// Does what is to be done.
    fn work(&mut self) {
        while !self.jobs.is_empty() {
            let job = self.jobs.remove(0);
            self.do_one(job);
            self.look();
        }
    }

    fn do_one(&mut self, job: JobId) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self.turn.job(job).expect("it is asked for") {
            Job::Verify { password, hashes } => {
                let password = text(password);
                let matches = hashes.iter().enumerate().filter(|(_, hash)| ***hash == *hash_of(&password));
                let matches = matches.fold(0, |all, (at, _)| all | 1 << at);
                self.computed.push(password);
                self.turn.job_done(job, &JobDone::Verified(matches));
            }
            Job::Hash { password } => {
                let password = text(password);
                self.turn.job_done(job, &JobDone::Hashed(&hash_of(&password)));
                self.computed.push(password);
            }
            Job::Load => {
                let file = self.file.clone();
                self.turn.job_done(job, &JobDone::Loaded(file.as_ref().map(String::as_bytes).map_err(String::as_str)));
            }
            Job::Save { text: saved } => {
                self.file = Ok(text(saved));
                self.turn.job_done(job, &JobDone::Saved(Ok(())));
            }
        }
    }

    /// Sends a request of these words; what is answered once all is done that it needs.
    fn ask(&mut self, conn: ConnId, words: &str) -> String {
        let at_once = self.send(conn, &request(words));
        self.work();
        at_once + &self.told(conn)
    }

    /// The same by a line.
    fn say(&mut self, conn: ConnId, line: &str) -> String {
        let at_once = self.send(conn, format!("{line}\n").as_bytes());
        self.work();
        at_once + &self.told(conn)
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000), wall: WallMs(1_700_000_000_000 + ms) }
}

fn request(words: &str) -> Vec<u8> {
    let words: Vec<&str> = words.split(' ').collect();
    let args: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{args}", words.len()).into_bytes()
}

/// What stands for the hash of a password here.
fn hash_of(password: &str) -> String {
    let digits: String = password.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA${digits:A<22}")
}

/// A file of users whose passwords are hashed.
fn hashed(users: &str) -> String {
    let words = |line: &str| {
        let words = line.split(' ').map(|word| match word.strip_prefix('>') {
            Some(password) => format!("#{}", hash_of(password)),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    users.lines().map(|line| words(line) + "\n").collect()
}

const LOCKED: &str = "user default on >secret ~* &* +@all";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const NO_KEY: &str = "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n";
const NO_CHANNEL: &str = "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n";

#[test]
fn an_open_node_knows_no_password() {
    let mut world = World::new();
    world.open(ANN);
    assert!(world.turn.node().lets_in_strangers());
    let none = "-ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?\r\n";
    assert_eq!(world.ask(ANN, "AUTH x"), none);
    assert_eq!(world.ask(ANN, "AUTH default x"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "AUTH nobody x"), WRONG);
    assert_eq!(world.ask(ANN, "AUTH a b c"), "-ERR syntax error\r\n");
    assert_eq!(world.ask(ANN, "SET k v"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "ACL WHOAMI"), "$7\r\ndefault\r\n");
    assert_eq!(world.ask(ANN, "ACL LIST"), "*1\r\n$34\r\nuser default on nopass ~* &* +@all\r\n");
}

#[test]
fn a_locked_node_answers_nothing_else_before_it_knows_who_asks() {
    let mut world = World::with(LOCKED);
    assert!(!world.turn.node().lets_in_strangers());
    for words in ["GET k", "PING", "FOO", "GET", "CLIENT LIST", "MULTI", "SUBSCRIBE c", "ACL WHOAMI", "COMMAND"] {
        assert_eq!(world.ask(ANN, words), NOAUTH, "{words}");
    }
    let hello = world.ask(ANN, "HELLO 3");
    assert!(hello.starts_with("-NOAUTH HELLO must be called with the client already authenticated"), "{hello}");
    assert_eq!(world.ask(ANN, "RESET"), "+RESET\r\n");
    assert_eq!(world.ask(ANN, "AUTH wrong"), WRONG);
    assert_eq!(world.ask(ANN, "AUTH nobody secret"), WRONG);
    assert_eq!(world.ask(ANN, "AUTH default secret"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "GET k"), "$-1\r\n");
    assert_eq!(world.ask(ANN, "RESET"), "+RESET\r\n");
    assert_eq!(world.ask(ANN, "GET k"), NOAUTH, "who resets is nobody again");
    assert_eq!(world.ask(ANN, "QUIT"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "HELLO 3 AUTH default wrong"), WRONG);
    let hello = world.ask(BOB, "HELLO 3 AUTH default secret SETNAME bob");
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n"), "{hello}");
    assert_eq!(world.ask(BOB, "CLIENT GETNAME"), "$3\r\nbob\r\n");
    assert_eq!(world.ask(BOB, "GET k"), "_\r\n", "it is version 3 of the protocol");
}

#[test]
fn lines_of_text_are_answered_in_sentences() {
    let mut world = World::with("user default on >secret ~a* &* +@all -flushall");
    let first = "Error: log in first, by AUTH password or AUTH user password; nothing was changed\n";
    assert_eq!(world.say(ANN, "GET a"), first);
    assert_eq!(world.say(ANN, "HELP"), first);
    let wrong = "Error: there is no such user, or the password is another; nothing was changed\n";
    assert_eq!(world.say(ANN, "AUTH wrong"), wrong);
    assert_eq!(world.say(ANN, "AUTH secret"), "OK\n");
    assert_eq!(world.say(ANN, "SET a 1"), "OK\n");
    assert_eq!(world.say(ANN, "GET b"), "Error: this user may not do that to the key 'b'; nothing was changed\n");
    assert_eq!(world.say(ANN, "FLUSHALL"), "Error: this user may not run FLUSHALL; nothing was changed\n");
    assert_eq!(world.say(ANN, "ACL WHOAMI"), "default\n");
}

#[test]
fn what_comes_behind_a_login_waits_for_it() {
    let mut world = World::with(LOCKED);
    let all = [request("AUTH secret"), request("SET k v"), request("GET k")].concat();
    assert_eq!(world.send(ANN, &all), "");
    assert_eq!(world.send(BOB, &request("PING")), NOAUTH, "others are answered meanwhile");
    world.work();
    assert_eq!(world.told(ANN), "+OK\r\n+OK\r\n$1\r\nv\r\n");
    let all = [request("AUTH wrong"), request("GET k")].concat();
    assert_eq!(world.send(BOB, &all), "");
    world.work();
    assert_eq!(world.told(BOB), format!("{WRONG}{NOAUTH}"));
}

#[test]
fn a_password_that_was_right_is_known_again_and_forgotten_with_its_user() {
    let mut world = World::with(&format!("{LOCKED}\nuser ann on >pw ~* &* +@all"));
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "+OK\r\n");
    assert_eq!(world.computed, ["pw"]);
    assert_eq!(world.send(BOB, &request("AUTH ann pw")), "+OK\r\n", "at once");
    assert_eq!(world.send(BOB, &[request("AUTH ann pw"), request("GET k")].concat()), "+OK\r\n$-1\r\n");
    assert_eq!(world.computed, ["pw"]);
    assert_eq!(world.ask(ANN, "ACL SETUSER ann <pw >other"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "AUTH ann pw"), WRONG);
    assert_eq!(world.ask(BOB, "AUTH ann other"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "GET k"), "$-1\r\n");
}

#[test]
fn ten_thousand_clients_that_come_at_once_cost_one_computation() {
    let mut world = World::with(LOCKED);
    let clients: Vec<ConnId> = (10..9_000).map(ConnId).collect();
    for conn in &clients {
        world.turn.begin(at(1));
        world.turn.event(Event::Opened { conn: *conn });
        world.turn.input(*conn, &request("AUTH secret"));
    }
    world.look();
    assert_eq!(world.jobs.len(), 1);
    world.work();
    for conn in &clients {
        assert_eq!(world.told(*conn), "+OK\r\n");
    }
    assert_eq!(world.computed, ["secret"]);
}

#[test]
fn who_guesses_waits_longer_each_time_and_holds_up_nobody_else() {
    let mut world = World::with(LOCKED);
    let mut waits = Vec::new();
    for at in 0..6 {
        // A new connection from the same address is no new start.
        let conn = ConnId(250 * (at + 1));
        world.open(conn);
        let begin = world.ms;
        assert_eq!(world.send(conn, &request(&format!("AUTH wrong{at}"))), "");
        while world.jobs.is_empty() {
            assert_eq!(world.send(BOB, &request("PING")), NOAUTH);
            let deadline = world.turn.deadline().expect("it will be begun");
            world.wait((deadline.0 / 1_000 - world.ms).max(1));
        }
        waits.push(world.ms - begin);
        world.work();
        assert_eq!(world.told(conn), WRONG);
        world.turn.event(Event::Closed { conn });
    }
    assert_eq!(waits, [0, 0, 0, 200, 400, 800]);
    assert_eq!(world.ask(BOB, "AUTH secret"), "+OK\r\n", "another address is let in at once");
}

#[test]
fn no_address_has_more_attempts_computed_than_its_share() {
    let mut world = World::with(LOCKED);
    let mut busy = 0;
    for at in 0..100 {
        let conn = ConnId(250 * (at + 1));
        world.open(conn);
        let answer = world.send(conn, &request(&format!("AUTH {at}")));
        busy += usize::from(answer.starts_with("-TRYAGAIN "));
    }
    assert_eq!((world.jobs.len(), busy), (16, 84));
    assert_eq!(world.send(BOB, &request("AUTH secret")), "");
    world.work();
    assert_eq!(world.told(BOB), "+OK\r\n");
}

#[test]
fn who_has_left_is_not_logged_in_as_who_comes_after() {
    let mut world = World::with(LOCKED);
    assert_eq!(world.send(ANN, &request("AUTH secret")), "");
    world.turn.event(Event::Closed { conn: ANN });
    world.open(ANN);
    assert_eq!(world.send(ANN, &request("GET k")), NOAUTH);
    world.work();
    assert_eq!(world.send(ANN, &request("GET k")), NOAUTH);
}

#[test]
fn who_does_not_log_in_is_sent_away() {
    let mut world = World::with(LOCKED);
    assert_eq!(world.send(BOB, &request("PING")), NOAUTH);
    assert_eq!(world.ask(EVE, "AUTH secret"), "+OK\r\n");
    world.wait(9_999);
    assert!(world.closed.is_empty());
    world.wait(1);
    assert!(world.told(ANN).starts_with("Error: nobody has logged in here in time"));
    assert!(world.told(BOB).starts_with("-NOAUTH nobody has logged in here in time"));
    let closed = [(ANN, Close::Stranger(Tongue::Line)), (BOB, Close::Stranger(Tongue::Resp))];
    assert_eq!(world.closed, BTreeMap::from(closed));
    world.wait(100_000);
    assert_eq!(world.send(EVE, &request("GET k")), "$-1\r\n");
}

#[test]
fn who_has_not_logged_in_gets_little_room() {
    let mut world = World::with(LOCKED);
    assert_eq!(world.send(ANN, b"*11\r\n"), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert_eq!(world.send(BOB, b"*2\r\n$16385\r\n"), "-ERR Protocol error: unauthenticated bulk length\r\n");
    let long = format!("{}\n", "x ".repeat(9_000));
    let answer = world.send(EVE, long.as_bytes());
    assert!(answer.starts_with("Error: the line is longer than 16384 bytes"), "{answer}");
    let eleven = world.say(EVE, "AUTH 1 2 3 4 5 6 7 8 9 10");
    assert!(eleven.starts_with("Error: log in first"), "{eleven}");
    // What comes while its password is being computed is kept, up to a bound.
    let behind = [b"AUTH wrong\n".to_vec(), vec![b'x'; 70_000]].concat();
    assert!(world.send(EVE, &behind).contains("before more was sent"));
    assert_eq!(world.closed.get(&EVE), Some(&Close::Stranger(Tongue::Line)));
    world.open(EVE);
    assert_eq!(world.ask(EVE, "AUTH secret"), "+OK\r\n");
    let value = "v".repeat(100_000);
    assert_eq!(world.ask(EVE, &format!("MSET a {value} b 1 c 1 d 1 e 1 f 1")), "+OK\r\n", "who is known has room");
}

#[test]
fn rights_are_looked_up_for_commands_keys_and_channels() {
    let rules = "on >pw ~a:* %R~r:* %W~w:* &ch* +@all -@dangerous -mget +config|get";
    let mut world = World::with(&format!("{LOCKED}\nuser ann {rules}"));
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "+OK\r\n");
    for (words, answer) in [
        ("SET a:1 x", "+OK\r\n"),
        ("GET b", NO_KEY),
        ("SET r:1 x", NO_KEY),
        ("GET r:1", "$-1\r\n"),
        ("GET w:1", NO_KEY),
        ("SET w:1 x", "+OK\r\n"),
        ("SET w:1 x GET", NO_KEY),
        ("SET a:1 y GET", "$1\r\nx\r\n"),
        ("INCR w:1", NO_KEY),
        ("DEL w:1 a:2", ":1\r\n"),
        ("DEL w:1 r:1", NO_KEY),
        ("EXISTS w:1", ":0\r\n"),
        ("EXISTS b", NO_KEY),
        ("MSET a:1 1 w:1 2", "+OK\r\n"),
        ("MSET a:1 1 b 2", NO_KEY),
        ("COPY r:1 w:2", ":0\r\n"),
        ("COPY w:1 a:2", NO_KEY),
        ("RENAME r:1 a:2", NO_KEY),
        ("SINTERCARD 2 a:x r:x LIMIT 9", ":0\r\n"),
        ("SINTERCARD 2 a:x b LIMIT 9", NO_KEY),
        ("SUNIONSTORE w:s r:s", ":0\r\n"),
        ("SUNIONSTORE r:s a:s", NO_KEY),
        ("OBJECT ENCODING b", NO_KEY),
        ("WATCH b", NO_KEY),
        ("WHY b", NO_KEY),
        ("MGET a:1", "-NOPERM this user has no permissions to run the 'mget' command\r\n"),
        ("CONFIG SET a b", "-NOPERM this user has no permissions to run the 'config|set' command\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFLICTS", "-NOPERM this user has no permissions to run the 'conflicts' command\r\n"),
        ("FLUSHALL", "-NOPERM this user has no permissions to run the 'flushall' command\r\n"),
        ("ACL WHOAMI", "$3\r\nann\r\n"),
        ("ACL LIST", "-NOPERM this user has no permissions to run the 'acl|list' command\r\n"),
        ("PUBLISH x y", NO_CHANNEL),
        ("PUBLISH ch1 y", ":0\r\n"),
        ("SUBSCRIBE ch1 x", NO_CHANNEL),
        ("PSUBSCRIBE ch1", NO_CHANNEL),
        ("PSUBSCRIBE ch*", "*3\r\n$10\r\npsubscribe\r\n$3\r\nch*\r\n:1\r\n"),
        ("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$3\r\nch*\r\n:0\r\n"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: \r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
    ] {
        assert_eq!(world.ask(ANN, words), answer, "{words}");
    }
}

#[test]
fn a_transaction_is_checked_when_it_is_put_off_and_when_it_is_run() {
    let mut world = World::with(&format!("{LOCKED}\nuser ann on >pw ~a* &* +@all"));
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "MULTI"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "SET b 1"), NO_KEY);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(world.ask(ANN, "EXEC"), aborted);
    assert_eq!(world.ask(ANN, "MULTI"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "SET a 1"), "+QUEUED\r\n");
    assert_eq!(world.ask(ANN, "GET ab"), "+QUEUED\r\n");
    assert_eq!(world.ask(BOB, "ACL SETUSER ann resetkeys ~ab"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "EXEC"), format!("*2\r\n{NO_KEY}$-1\r\n"));
    assert_eq!(world.ask(BOB, "GET a"), "$-1\r\n");
    assert_eq!(world.ask(ANN, "MULTI"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "-ERR Command not allowed inside a transaction\r\n");
    assert_eq!(world.ask(ANN, "EXEC"), aborted);
}

#[test]
fn changes_of_users_reach_connections_at_once() {
    let mut world = World::with(&format!("{LOCKED}\nuser ann on >pw ~* &* +@all\nuser bob on >pw ~* &* +@all"));
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "AUTH bob pw"), "+OK\r\n");
    assert_eq!(world.ask(EVE, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.ask(EVE, "ACL SETUSER ann -get"), "+OK\r\n");
    let refused = "-NOPERM this user has no permissions to run the 'get' command\r\n";
    assert_eq!(world.send(ANN, &[request("GET k"), request("SET k v")].concat()), format!("{refused}+OK\r\n"));
    assert!(world.ask(EVE, "CLIENT LIST").contains(" user=bob "));
    assert_eq!(world.ask(EVE, "CLIENT KILL USER nobody"), "-ERR No such user 'nobody'\r\n");
    assert_eq!(world.ask(EVE, "ACL SETUSER ann off"), "+OK\r\n");
    world.wait(0);
    assert_eq!(world.closed, BTreeMap::from([(ANN, Close::Killed)]));
    assert_eq!(world.ask(BOB, "SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    assert_eq!(world.ask(EVE, "ACL SETUSER bob resetchannels &other"), "+OK\r\n");
    world.wait(0);
    assert_eq!(world.closed.get(&BOB), Some(&Close::Killed), "who hears what he may not");
    world.open(BOB);
    assert_eq!(world.ask(BOB, "AUTH bob pw"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "ACL DELUSER bob nobody"), ":1\r\n", "who removes himself is answered");
    assert_eq!(world.closed.get(&BOB), Some(&Close::Quit));
    assert_eq!(world.ask(EVE, "ACL DELUSER default"), "-ERR The 'default' user cannot be removed\r\n");
    assert_eq!(world.ask(EVE, "ACL USERS"), "*2\r\n$3\r\nann\r\n$7\r\ndefault\r\n");
    world.open(ANN);
    assert_eq!(world.ask(ANN, "AUTH ann pw"), WRONG, "who is off is not let in");
}

#[test]
fn a_user_is_changed_whole_or_not_at_all() {
    let mut world = World::with(LOCKED);
    assert_eq!(world.ask(ANN, "AUTH secret"), "+OK\r\n");
    let error = "-ERR Error in ACL SETUSER modifier '+nope': Unknown command or category name in ACL\r\n";
    assert_eq!(world.ask(ANN, "ACL SETUSER bob on >pw +nope"), error);
    assert_eq!(world.computed, ["secret"], "nothing is hashed for what fails");
    assert_eq!(world.ask(ANN, "ACL GETUSER bob"), "*-1\r\n");
    assert_eq!(world.ask(ANN, "ACL SETUSER bob on >one >two ~a* +get"), "+OK\r\n");
    assert_eq!(world.computed, ["secret", "one", "two"]);
    let gone = "-ERR Error in ACL SETUSER modifier '<': The password you are trying to remove from the user does not \
                exist\r\n";
    assert_eq!(world.ask(ANN, "ACL SETUSER bob off <three"), gone);
    assert_eq!(world.ask(ANN, "ACL SETUSER bob <one"), "+OK\r\n");
    let two = hash_of("two");
    let shown = world.ask(ANN, "ACL GETUSER bob").replace("\r\n", " ");
    assert_eq!(
        shown,
        format!(
            "*12 $5 flags *1 $2 on $9 passwords *1 ${} {two} $8 commands $10 -@all +get $4 keys $3 ~a* $8 channels $0  \
             $9 selectors *0 ",
            two.len()
        )
    );
    assert_eq!(world.ask(ANN, "ACL SETUSER bob on foo"), "-ERR Error in ACL SETUSER modifier 'foo': Syntax error\r\n");
    let bad = "-ERR Usernames can't contain spaces or null characters, and have 1 to 128 bytes\r\n";
    assert_eq!(world.send(ANN, b"*3\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$3\r\na\nb\r\n"), bad);
}

#[test]
fn it_tells_what_would_be_denied_and_what_was() {
    let mut world = World::with(&format!("{LOCKED}\nuser ann on >pw ~a* +@read"));
    assert_eq!(world.ask(EVE, "AUTH secret"), "+OK\r\n");
    for (words, answer) in [
        ("ACL DRYRUN ann GET a", "+OK\r\n"),
        ("ACL DRYRUN ann GET b", "$50\r\nThis user has no permissions to access the 'b' key\r\n"),
        ("ACL DRYRUN ann SET a x", "$53\r\nThis user has no permissions to run the 'set' command\r\n"),
        ("ACL DRYRUN nobody GET b", "-ERR User 'nobody' not found\r\n"),
        ("ACL DRYRUN ann NOPE b", "-ERR Command 'NOPE' not found\r\n"),
        ("ACL DRYRUN ann GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("ACL CAT nothing", "-ERR Unknown category 'nothing'\r\n"),
        ("ACL CAT transaction", "*5\r\n$5\r\nmulti\r\n$4\r\nexec\r\n$7\r\ndiscard\r\n$5\r\nwatch\r\n$7\r\nunwatch\r\n"),
        ("ACL NOPE", "-ERR unknown subcommand 'NOPE'. Try ACL HELP.\r\n"),
        ("ACL", "-ERR wrong number of arguments for 'acl' command\r\n"),
        ("ACL LOG", "*0\r\n"),
    ] {
        assert_eq!(world.ask(EVE, words), answer, "{words}");
    }
    assert_eq!(world.ask(ANN, "AUTH ann wrong"), WRONG);
    assert_eq!(world.ask(ANN, "AUTH ann pw"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "GET b"), NO_KEY);
    assert_eq!(world.ask(ANN, "GET b"), NO_KEY);
    world.wait(1_500);
    let log = world.ask(EVE, "ACL LOG").replace("\r\n", " ");
    assert!(log.starts_with("*2 *14 $5 count :2 $6 reason $3 key $7 context $8 toplevel $6 object $1 b "), "{log}");
    assert!(log.contains("$11 age-seconds $5 1.500 ") && log.contains(" addr=10.0.0.1:7000 "), "{log}");
    let login = "*14 $5 count :1 $6 reason $4 auth $7 context $8 toplevel $6 object $4 AUTH $8 username";
    assert!(log.contains(login), "{log}");
    assert_eq!(world.ask(EVE, "ACL LOG 1").matches("reason").count(), 1);
    assert_eq!(world.ask(EVE, "ACL LOG RESET"), "+OK\r\n");
    assert_eq!(world.ask(EVE, "ACL LOG"), "*0\r\n");
}

#[test]
fn passwords_are_made_up_of_as_many_bits_as_are_wanted() {
    let mut world = World::new();
    world.open(ANN);
    let mut made = Vec::new();
    for (words, digits) in [("", 64), ("", 64), (" 5", 2), (" 1", 1), (" 4096", 1024)] {
        let answer = world.ask(ANN, &format!("ACL GENPASS{words}"));
        let password = answer.split("\r\n").nth(1).expect("a value").to_owned();
        assert!(password.len() == digits && password.bytes().all(|byte| byte.is_ascii_hexdigit()), "{password}");
        made.push(password);
    }
    assert_ne!(made[0], made[1]);
    let refused = "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up \
                   to 4096\r\n";
    assert_eq!(world.ask(ANN, "ACL GENPASS 0"), refused);
    assert_eq!(world.ask(ANN, "ACL GENPASS 4097"), refused);
}

#[test]
fn the_file_is_read_and_written_on_demand() {
    let mut open = World::new();
    open.open(ANN);
    for words in ["ACL SAVE", "ACL LOAD"] {
        let answer = open.ask(ANN, words);
        assert!(answer.starts_with("-ERR This Redis instance is not configured to use an ACL file."), "{answer}");
    }
    let mut world = World::with(LOCKED);
    assert_eq!(world.ask(ANN, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "ACL SETUSER bob on >pw ~* +@all"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "ACL SAVE"), "+OK\r\n");
    let saved = world.file.clone().expect("it is written");
    let bob = format!("user bob on #{} ~* resetchannels +@all\n", hash_of("pw"));
    assert_eq!(saved, format!("{bob}{}", hashed(LOCKED)));
    assert_eq!(world.ask(BOB, "AUTH bob pw"), "+OK\r\n");
    world.file = Ok(format!("{saved}user eve on +nope\n"));
    let answer = world.ask(ANN, "ACL LOAD");
    let wrong = "-ERR line 3: a rule of the user 'eve' is none: Unknown command or category";
    assert!(answer.starts_with(wrong), "{answer}");
    assert_eq!(world.ask(BOB, "GET k"), "$-1\r\n", "nothing has changed");
    world.file = Err("the disk is gone".to_owned());
    assert_eq!(world.ask(ANN, "ACL LOAD"), "-ERR the disk is gone\r\n");
    world.file = Ok(hashed(LOCKED));
    world.turn.reload_users();
    world.look();
    world.work();
    world.wait(0);
    assert_eq!(world.closed, BTreeMap::from([(BOB, Close::Killed)]), "who is gone from the file is sent away");
    assert_eq!(world.ask(ANN, "ACL USERS"), "*1\r\n$7\r\ndefault\r\n");
}

/// A request by HTTP with these fields, and a body if there is one.
fn http(line: &str, fields: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

impl World {
    /// Sends a request by HTTP; the answer once all is done that it needs.
    fn fetch(&mut self, conn: ConnId, line: &str, fields: &str, body: &str) -> String {
        let at_once = self.send(conn, http(line, fields, body).as_bytes());
        self.work();
        at_once + &self.told(conn)
    }
}

#[test]
fn by_http_each_request_says_who_asks() {
    let mut world = World::with(LOCKED);
    for path in ["/healthz", "/readyz"] {
        let answer = world.fetch(ANN, &format!("GET {path}"), "", "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    for path in ["/", "/metrics", "/v1/cluster", "/v1/kv", "/v1/kv/a", "/v1/watch", "/v1/openapi.json", "/v1/why/a"] {
        let answer = world.fetch(ANN, &format!("GET {path}"), "", "");
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{path}: {answer}");
        let challenge = "\r\nWWW-Authenticate: Basic realm=\"Simple-KV\", charset=\"UTF-8\", Bearer realm=";
        assert!(answer.contains(challenge), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("log in: by Basic"), "{answer}");
    }
    let (right, wrong) = (basic("default", "secret"), basic("default", "wrong"));
    for path in ["/", "/metrics", "/v1/cluster", "/v1/kv"] {
        let answer = world.fetch(ANN, &format!("GET {path}"), &right, "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
    }
    assert_eq!(world.computed, ["secret"], "once for all");
    let answer = world.fetch(ANN, "GET /v1/kv/a", &wrong, "");
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("the password is another"), "{answer}");
    let answer = world.fetch(ANN, "GET /v1/kv/a", "Authorization: Digest x\r\n", "");
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("neither Basic nor Bearer"), "{answer}");
    for fields in ["Authorization: Bearer secret\r\n", "Authorization: Bearer default:secret\r\n", &right] {
        assert!(world.fetch(ANN, "GET /v1/kv/a", fields, "").starts_with("HTTP/1.1 404 "), "{fields}");
    }
    assert!(world.fetch(ANN, "GET /v1/kv/a", "", "").starts_with("HTTP/1.1 401 "), "nobody is remembered");
    let answer = world.fetch(BOB, "PUT /v1/kv/a", "", "value");
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(world.closed.get(&BOB), Some(&Close::Quit), "its body is not waited for");
}

#[test]
fn a_request_by_http_waits_for_its_login_with_all_behind_it() {
    let mut world = World::with(LOCKED);
    let right = basic("default", "secret");
    let all = [
        http("PUT /v1/kv/a", &right, "value"),
        http("GET /v1/kv/a", &right, ""),
        http("GET /v1/kv/a", &basic("default", "no"), ""),
    ];
    assert_eq!(world.send(ANN, all.concat().as_bytes()), "");
    assert!(world.send(BOB, http("GET /healthz", "", "").as_bytes()).starts_with("HTTP/1.1 200 "));
    world.work();
    let first = world.told(ANN);
    world.work();
    let told = first + &world.told(ANN);
    let statuses: Vec<&str> = told.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["201", "200", "401"], "{told}");
    assert_eq!(world.computed, ["secret", "no"]);
}

#[test]
fn by_http_too_users_may_do_what_they_may() {
    let mut world = World::with(&format!("{LOCKED}\nuser ann on >pw ~a* %R~r* &* +@all -@dangerous"));
    let ann = basic("ann", "pw");
    for (line, body, status) in [
        ("PUT /v1/kv/a", "1", "201"),
        ("GET /v1/kv/a", "", "200"),
        ("GET /v1/kv/r", "", "404"),
        ("GET /v1/kv/b", "", "403"),
        ("PUT /v1/kv/r", "1", "403"),
        ("DELETE /v1/kv/r", "", "403"),
        ("DELETE /v1/kv/a", "", "204"),
        ("GET /v1/why/b", "", "403"),
        ("GET /v1/cluster", "", "403"),
        ("GET /metrics", "", "403"),
        ("GET /v1/kv", "", "200"),
        ("GET /", "", "200"),
        ("GET /v1/watch", "", "403"),
        ("GET /v1/watch?prefix=b", "", "403"),
        ("HEAD /v1/watch?prefix=ab", "", "200"),
    ] {
        let answer = world.fetch(ANN, line, &ann, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert_eq!(answer.contains("Content-Type: application/problem+json"), status >= "400", "{line}: {answer}");
    }
    // What stands there is not told by a condition either.
    world.fetch(EVE, "PUT /v1/kv/r", &basic("default", "secret"), "1");
    let answer = world.fetch(ANN, "PUT /v1/kv/r", &format!("{ann}If-None-Match: *\r\n"), "2");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let batch = r#"{"ops":[{"op":"get","key":"r"},{"op":"get","key":"b"},{"op":"put","key":"a","value":"1"}]}"#;
    let answer = world.fetch(ANN, "POST /v1/batch", &ann, batch);
    let refused = r#"{"status":403,"detail":"this user may not do that to the key 'b'; nothing was changed"}"#;
    assert!(answer.contains(refused), "{answer}");
    assert!(answer.contains(r#""status":200"#) && answer.contains(r#"{"status":204}"#), "{answer}");
    // Who watches is cut off when the user may watch no more.
    let answer = world.fetch(BOB, "GET /v1/watch?prefix=a", &ann, "");
    assert!(answer.contains("text/event-stream"), "{answer}");
    world.fetch(EVE, "GET /v1/kv/x", &basic("default", "secret"), "");
    let admin = ConnId(3);
    world.open(admin);
    assert_eq!(world.ask(admin, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.ask(admin, "ACL SETUSER ann off"), "+OK\r\n");
    world.wait(0);
    assert_eq!(world.closed.get(&BOB), Some(&Close::Killed));
    assert!(world.fetch(ANN, "GET /v1/kv/a", &ann, "").is_empty(), "it is ended too");
}

#[test]
fn a_connection_of_http_that_never_logs_in_is_ended() {
    let mut world = World::with(LOCKED);
    assert!(world.fetch(ANN, "GET /v1/kv/a", "", "").starts_with("HTTP/1.1 401 "));
    assert!(world.fetch(BOB, "GET /v1/kv/a", &basic("default", "secret"), "").starts_with("HTTP/1.1 404 "));
    world.wait(10_000);
    assert!(world.told(ANN).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(world.closed.get(&ANN), Some(&Close::Stranger(Tongue::Http)));
    assert!(!world.closed.contains_key(&BOB));
}

#[test]
fn a_door_can_be_locked_while_the_node_runs() {
    let mut world = World::new();
    [ANN, BOB].into_iter().for_each(|conn| world.open(conn));
    assert_eq!(world.ask(ANN, "ACL SETUSER default >secret"), "+OK\r\n");
    assert_eq!(world.ask(ANN, "GET k"), "$-1\r\n", "who was there stays");
    assert_eq!(world.ask(BOB, "GET k"), NOAUTH, "who had not said a word has to log in");
    world.wait(10_000);
    assert!(world.told(BOB).starts_with("-NOAUTH nobody has logged in here in time"));
    assert_eq!(world.closed, BTreeMap::from([(BOB, Close::Stranger(Tongue::Resp))]));
    world.open(BOB);
    assert_eq!(world.ask(BOB, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.ask(BOB, "ACL SETUSER default nopass"), "+OK\r\n");
    world.open(EVE);
    assert_eq!(world.ask(EVE, "GET k"), "$-1\r\n");
}
