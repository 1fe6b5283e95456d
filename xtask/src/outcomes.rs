//! Whether a server kept its word. A [`Journal`] takes down, per record, every answer to a write
//! and everything that was read, each with the moment it began and the moment it ended; then it
//! judges them together:
//!
//! 1. A record has one position, a position one record, for ever; at most one write created it.
//! 2. What was acknowledged, or seen once, is seen by every later read.
//! 3. Nothing is there that no write can have put there: after `not_written`, or after a read by id
//!    that said no, a record comes only from a write that had not ended by then.
//! 4. `indeterminate` is decided by the next start at the latest, and the decision never changes:
//!    it follows from 2 and 3, and from this: only a write of the same run leaves a record open.
//! 5. A read never shows an older state of the log than an earlier read, or an earlier
//!    acknowledgement.
//! 6. No answer takes longer than it may.
//!
//! "Later" means: began after the other had ended. What overlaps may come out either way.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stemedb_model::RecordId;

/// What a writer was told of one sending of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// 201, with the position.
    Created(u64),
    /// 200, with the position.
    Exists(u64),
    /// 500 `index_failed`, `durable_not_applied`, with the position.
    NotApplied(u64),
    /// `outcome: not_written`: it is not in the log and will not appear.
    NotWritten,
    /// Turned away (a full queue, a drain): this sending wrote nothing. Says nothing of others.
    Refused,
    /// `outcome: indeterminate`.
    Indeterminate,
}

/// What a reader was shown of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// There, at this position.
    At(u64),
    /// Durable at this position, and unreadable until a restart: 500 `durable_not_applied`.
    NotApplied(u64),
    /// 404 by its id. A list taken when no write is on its way says as much.
    Absent,
    /// 503 `indeterminate`, by its id.
    Undecided,
    /// Not in a list or an answer that should hold it. Unlike [`Seen::Absent`] that is no promise:
    /// an undecided record is not listed either.
    Unlisted,
}

/// The beginning of a request.
#[derive(Debug)]
#[must_use = "what was begun must be ended, or the journal does not know of it"]
pub(crate) struct Began {
    tick: u64,
    run: u32,
    at: Instant,
    /// The newest position that anybody had been shown or told of by then.
    newest: u64,
}

/// A write whose answer is open.
#[derive(Debug)]
#[must_use = "a write without an answer is `lost`"]
pub(crate) struct Sending {
    id: RecordId,
    index: usize,
    began: Began,
}

/// Everything that was answered and seen, by record.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Orders all beginnings and ends. A request that ended with a smaller number than another
    /// began with ended before it.
    clock: AtomicU64,
    /// Starts of the server so far.
    run: AtomicU32,
    newest: AtomicU64,
    answer_max: Duration,
    records: Mutex<HashMap<RecordId, History>>,
    /// Broken rules that show at once.
    problems: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

#[derive(Debug, Default, Clone)]
struct History {
    writes: Vec<Write>,
    reads: Vec<Read>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    began: u64,
    /// Open for as long as the server may still work on it.
    ended: Option<u64>,
    answer: Option<Answer>,
    run: u32,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    began: u64,
    ended: u64,
    seen: Seen,
    run: u32,
}

/// What came of judging.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Broken promises, a sentence each.
    pub(crate) problems: Vec<String>,
    pub(crate) records: usize,
    pub(crate) reads: usize,
    /// How often each answer was given.
    pub(crate) answers: BTreeMap<&'static str, usize>,
    /// Records that were indeterminate at first and are there, and that are not there.
    pub(crate) settled: (usize, usize),
    /// The same of records that were sent and never answered.
    pub(crate) unanswered: (usize, usize),
    pub(crate) slowest: Duration,
}

impl Answer {
    fn word(self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Exists(_) => "exists",
            Self::NotApplied(_) => "durable_not_applied",
            Self::NotWritten => "not_written",
            Self::Refused => "refused",
            Self::Indeterminate => "indeterminate",
        }
    }

    fn position(self) -> Option<u64> {
        match self {
            Self::Created(position) | Self::Exists(position) | Self::NotApplied(position) => {
                Some(position)
            }
            Self::NotWritten | Self::Refused | Self::Indeterminate => None,
        }
    }
}

impl Seen {
    fn position(self) -> Option<u64> {
        match self {
            Self::At(position) | Self::NotApplied(position) => Some(position),
            Self::Absent | Self::Undecided | Self::Unlisted => None,
        }
    }
}

impl Write {
    /// Whether it may be the one that put the record into the log.
    fn may_have_written(&self) -> bool {
        match self.answer {
            None | Some(Answer::Created(_) | Answer::NotApplied(_) | Answer::Indeterminate) => true,
            Some(Answer::Exists(_) | Answer::NotWritten | Answer::Refused) => false,
        }
    }

    fn ended_before(&self, tick: u64) -> bool {
        self.ended.is_some_and(|ended| ended < tick)
    }
}

impl Journal {
    /// An empty one; an answer may take `answer_max`.
    pub(crate) fn new(answer_max: Duration) -> Self {
        Self {
            clock: AtomicU64::new(1),
            run: AtomicU32::new(0),
            newest: AtomicU64::new(0),
            answer_max,
            records: Mutex::default(),
            problems: Mutex::default(),
            slowest: Mutex::default(),
        }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<RecordId, History>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Something is wrong that the journal cannot see for itself.
    pub(crate) fn problem(&self, words: impl Into<String>) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(words.into());
    }

    /// Before a request is sent.
    pub(crate) fn begin(&self) -> Began {
        let newest = self.newest.load(Ordering::SeqCst);
        let run = self.run.load(Ordering::SeqCst);
        Began { tick: self.tick(), run, at: Instant::now(), newest }
    }

    fn took(&self, began: &Began, what: &dyn fmt::Display) {
        let took = began.at.elapsed();
        if took > self.answer_max {
            self.problem(format!("{what} took {took:.1?}, more than {:?}", self.answer_max));
        }
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        *slowest = took.max(*slowest);
    }

    /// Before a record is sent.
    pub(crate) fn send(&self, id: RecordId) -> Sending {
        let began = self.begin();
        let mut records = self.records();
        let writes = &mut records.entry(id).or_default().writes;
        writes.push(Write { began: began.tick, ended: None, answer: None, run: began.run });
        Sending { id, index: writes.len() - 1, began }
    }

    /// After its answer came.
    pub(crate) fn answered(&self, sending: Sending, answer: Answer) {
        let Sending { id, index, began } = sending;
        self.took(&began, &format_args!("the answer `{}` to {id}", answer.word()));
        if let Some(position) = answer.position()
            && !matches!(answer, Answer::NotApplied(_))
        {
            self.newest.fetch_max(position, Ordering::SeqCst);
        }
        // The number is drawn last: a read that begins after this sees all of it.
        let ended = self.tick();
        let mut records = self.records();
        let write = records.get_mut(&id).and_then(|history| history.writes.get_mut(index));
        if let Some(write) = write {
            (write.ended, write.answer) = (Some(ended), Some(answer));
        }
    }

    /// No answer came: the connection broke. The server may be at it until it is gone.
    pub(crate) fn lost(&self, sending: Sending) {
        let Sending { id, began, .. } = sending;
        self.took(&began, &format_args!("the broken connection for {id}"));
    }

    /// A read broke off: nothing was seen, but how long that took counts.
    pub(crate) fn broke(&self, began: &Began) {
        self.took(began, &"a broken read");
    }

    /// After an answer about one record came.
    pub(crate) fn read(&self, id: RecordId, began: Began, seen: Seen) {
        self.took(&began, &format_args!("a read of {id}"));
        let read = self.ended(&began, seen);
        self.records().entry(id).or_default().reads.push(read);
    }

    fn ended(&self, began: &Began, seen: Seen) -> Read {
        Read { began: began.tick, ended: self.tick(), seen, run: began.run }
    }

    /// After an answer came that was true at this position of the log.
    pub(crate) fn snapshot(&self, began: &Began, position: u64) {
        if position < began.newest {
            self.problem(format!(
                "a read shows the log at position {position}, after {} had been shown",
                began.newest
            ));
        }
        self.newest.fetch_max(position, Ordering::SeqCst);
    }

    /// After a list of all records came. `quiet`: no write was on its way, so that what is not in
    /// it is not there. What nobody sent does not belong into it.
    pub(crate) fn listed(&self, began: &Began, list: &HashMap<RecordId, u64>, quiet: bool) {
        let not_there = if quiet { Seen::Absent } else { Seen::Unlisted };
        let ended = self.ended(began, not_there);
        let mut records = self.records();
        for (id, position) in list {
            if records.get(id).is_none_or(|history| history.writes.is_empty()) {
                self.problem(format!("{id} is at position {position}, and nobody sent it"));
            }
            let history = records.entry(*id).or_default();
            history.reads.push(Read { seen: Seen::At(*position), ..ended });
        }
        for (id, history) in records.iter_mut() {
            if !list.contains_key(id) {
                history.reads.push(ended);
            }
        }
    }

    /// The server is gone: whatever was on its way has ended.
    pub(crate) fn stopped(&self) {
        let now = self.tick();
        for write in self.records().values_mut().flat_map(|history| &mut history.writes) {
            write.ended.get_or_insert(now);
        }
        self.run.fetch_add(1, Ordering::SeqCst);
    }

    /// Judges everything so far. A run should end with a list or a read of every record, taken
    /// after a restart: what nobody looked at cannot be found missing.
    pub(crate) fn judge(&self) -> Verdict {
        let records = self.records();
        let mut verdict = Verdict {
            problems: self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            records: records.len(),
            slowest: *self.slowest.lock().unwrap_or_else(PoisonError::into_inner),
            ..Verdict::default()
        };
        let mut places: HashMap<u64, RecordId> = HashMap::new();
        for (id, history) in records.iter() {
            verdict.reads += history.reads.len();
            for write in &history.writes {
                *verdict.answers.entry(write.answer.map_or("none", Answer::word)).or_default() += 1;
            }
            let problems = history.problems();
            if !problems.is_empty() {
                let story = history.story();
                let words = problems.into_iter().map(|words| format!("{id} {words}: {story}"));
                verdict.problems.extend(words);
            }
            let position = history.positives().next().map(|sign| sign.position);
            if let Some(position) = position
                && let Some(other) = places.insert(position, *id)
            {
                verdict.problems.push(format!("position {position} is that of {id} and {other}"));
            }
            let count = |counts: &mut (usize, usize)| match position {
                Some(_) => counts.0 += 1,
                None => counts.1 += 1,
            };
            if history.writes.iter().any(|write| write.answer == Some(Answer::Indeterminate)) {
                count(&mut verdict.settled);
            }
            if history.writes.iter().any(|write| write.answer.is_none()) {
                count(&mut verdict.unanswered);
            }
        }
        verdict
    }
}

/// A sign that a record is there.
struct Sign {
    ended: u64,
    position: u64,
    run: u32,
    applied: bool,
}

impl History {
    fn positives(&self) -> impl Iterator<Item = Sign> + '_ {
        let writes = self.writes.iter().filter_map(|write| {
            let (answer, ended) = (write.answer?, write.ended?);
            let applied = !matches!(answer, Answer::NotApplied(_));
            let position = answer.position()?;
            Some(Sign { ended, position, run: write.run, applied })
        });
        let reads = self.reads.iter().filter_map(|read| {
            let applied = !matches!(read.seen, Seen::NotApplied(_));
            let Read { ended, run, .. } = *read;
            Some(Sign { ended, position: read.seen.position()?, run, applied })
        });
        writes.chain(reads)
    }

    /// Moments at which the server said: it is not there, and does not come of what was sent.
    fn denials(&self) -> impl Iterator<Item = (u64, u64, &'static str)> + '_ {
        let writes = self.writes.iter().filter_map(|write| {
            let said = write.answer == Some(Answer::NotWritten);
            said.then_some((write.began, write.ended.unwrap_or(u64::MAX), "not_written"))
        });
        let reads = self.reads.iter().filter_map(|read| {
            (read.seen == Seen::Absent).then_some((read.began, read.ended, "a read that said no"))
        });
        writes.chain(reads)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut positions: Vec<u64> = self.positives().map(|sign| sign.position).collect();
        positions.sort_unstable();
        positions.dedup();
        if positions.len() > 1 {
            problems.push(format!("is at positions {positions:?}"));
        }
        let created = |write: &&Write| matches!(write.answer, Some(Answer::Created(_)));
        let creators = self.writes.iter().filter(created).count();
        if creators > 1 {
            problems.push(format!("was created {creators} times"));
        }
        self.vanished(&mut problems);
        self.appeared(creators > 0, &mut problems);
        for read in self.reads.iter().filter(|read| read.seen == Seen::Undecided) {
            let open = |write: &Write| {
                write.run == read.run
                    && write.began < read.ended
                    && (write.may_have_written() || !write.ended_before(read.began))
            };
            if !self.writes.iter().any(open) {
                problems.push("is undecided, and nobody sent it since the start".to_owned());
            }
        }
        problems
    }

    fn vanished(&self, problems: &mut Vec<String>) {
        let Some(first) = self.positives().min_by_key(|sign| sign.ended) else { return };
        for (began, _, what) in self.denials().filter(|(began, ..)| *began > first.ended) {
            problems.push(format!("was there at {}, and then came {what} at {began}", first.ended));
        }
        let shown = self.positives().filter(|sign| sign.applied).map(|sign| sign.ended).min();
        for read in &self.reads {
            let hidden = match read.seen {
                Seen::At(_) | Seen::Absent => false,
                // Only a start can make it readable again, and does.
                Seen::NotApplied(_) | Seen::Unlisted => {
                    let durable = read.run > first.run && matches!(read.seen, Seen::Unlisted);
                    durable || shown.is_some_and(|shown| shown < read.began)
                }
                Seen::Undecided => first.ended < read.began,
            };
            if hidden {
                problems.push(format!(
                    "was there at {}, and was {:?} at {}",
                    first.ended, read.seen, read.began
                ));
            }
        }
    }

    /// There must be a write that can have put it there, given all that was said.
    fn appeared(&self, created: bool, problems: &mut Vec<String>) {
        let Some(first) = self.positives().map(|sign| sign.ended).min() else { return };
        let author = |write: &&Write| match write.answer {
            // If one says that it was the one, it was.
            Some(Answer::Created(_)) => true,
            _ => !created && write.may_have_written(),
        };
        let authors: Vec<&Write> =
            self.writes.iter().filter(author).filter(|write| write.began < first).collect();
        if authors.is_empty() {
            problems.push("is there, and no write can have put it there".to_owned());
            return;
        }
        // One author must fit all that was said, not each saying some author.
        let refuted = |write: &&&Write| {
            self.denials().find(|(began, ..)| write.ended_before(*began)).map(|(_, _, what)| what)
        };
        let refutations: Vec<&str> = authors.iter().filter_map(|write| refuted(&write)).collect();
        if refutations.len() == authors.len() {
            problems.push(format!(
                "is there, although every write that can have put it there had ended before {}",
                refutations.join(", ")
            ));
        }
    }

    /// All that happened, in order of the beginnings.
    fn story(&self) -> String {
        let mut events: Vec<(u64, String)> = Vec::new();
        for Write { began, ended, answer, run } in &self.writes {
            let ended = ended.map_or_else(|| "…".to_owned(), |ended| ended.to_string());
            let answer = answer.map_or_else(|| "no answer".to_owned(), |one| format!("{one:?}"));
            events.push((*began, format!("[{began}-{ended} run {run}] sent: {answer}")));
        }
        for Read { began, ended, seen, run } in &self.reads {
            events.push((*began, format!("[{began}-{ended} run {run}] read: {seen:?}")));
        }
        events.sort();
        let words: Vec<String> = events.into_iter().map(|(_, words)| words).collect();
        words.join("; ")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.records)?;
        for (answer, count) in &self.answers {
            write!(f, ", {count} {answer}")?;
        }
        let (there, not_there) = self.settled;
        write!(
            f,
            "; {} reads; of the indeterminate {there} are there and {not_there} are not; slowest \
             answer {:.1?}; {} problems",
            self.reads,
            self.slowest,
            self.problems.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RecordId = RecordId([1; 32]);
    const TWO: RecordId = RecordId([2; 32]);

    /// What a test does, in order. A write or read that is not opened before is over at once.
    enum Step {
        Write(Answer),
        /// Begins a write that is ended by `End`, in order.
        Open,
        End(Answer),
        /// The connection broke.
        Lost,
        Read(Seen),
        /// Begins a read that is ended by `Show`.
        Look,
        Show(Seen),
        Restart,
        List(&'static [(RecordId, u64)]),
    }
    use Answer::*;
    use Step::*;

    fn problems(steps: &[Step]) -> Vec<String> {
        let journal = Journal::new(Duration::from_secs(10));
        let (mut open, mut looks) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Write(answer) => journal.answered(journal.send(ONE), *answer),
                Open => open.insert(0, journal.send(ONE)),
                End(answer) => journal.answered(open.pop().unwrap(), *answer),
                Lost => journal.lost(open.pop().unwrap()),
                Read(seen) => journal.read(ONE, journal.begin(), *seen),
                Look => looks.push(journal.begin()),
                Show(seen) => journal.read(ONE, looks.remove(0), *seen),
                Restart => journal.stopped(),
                List(list) => {
                    journal.listed(&journal.begin(), &list.iter().copied().collect(), true);
                }
            }
        }
        journal.judge().problems
    }

    #[test]
    fn what_a_server_may_say() {
        let fine: &[&[Step]] = &[
            &[Write(Created(5)), Write(Exists(5)), Read(Seen::At(5)), Restart, Read(Seen::At(5))],
            &[Write(NotWritten), Read(Seen::Absent), Restart, Read(Seen::Absent)],
            // Sent again, it may come.
            &[Write(NotWritten), Write(Created(5)), Read(Seen::At(5))],
            &[Write(NotWritten), Write(Indeterminate), Restart, Read(Seen::At(5))],
            // Indeterminate: either way, once.
            &[Write(Indeterminate), Read(Seen::Undecided), Read(Seen::At(5)), Read(Seen::At(5))],
            &[Write(Indeterminate), Read(Seen::Unlisted), Restart, Read(Seen::At(5))],
            &[Write(Indeterminate), Read(Seen::Undecided), Restart, Read(Seen::Absent)],
            &[Write(Indeterminate), Restart, List(&[])],
            &[Write(Indeterminate), Write(Indeterminate), Restart, List(&[(ONE, 5)])],
            &[Write(Indeterminate), Read(Seen::Absent), Write(Created(5)), Read(Seen::At(5))],
            // What overlaps may come out either way.
            &[Open, Read(Seen::Absent), Read(Seen::At(5)), End(Created(5))],
            &[Look, Open, End(Created(5)), Show(Seen::Absent), Read(Seen::At(5))],
            &[Open, Open, End(NotWritten), End(Created(5)), Read(Seen::At(5))],
            &[Open, Open, End(Exists(5)), End(Created(5))],
            &[Open, Read(Seen::Undecided), End(NotWritten), Restart, Read(Seen::Absent)],
            // A broken connection: the server is at it until it is gone.
            &[Open, Lost, Read(Seen::Absent), Read(Seen::At(5)), Restart, Read(Seen::At(5))],
            &[Open, Lost, Restart, Read(Seen::Absent), Write(Created(6))],
            // Turned away: says nothing of the others.
            &[Write(Indeterminate), Write(Refused), Restart, Read(Seen::At(5))],
            // Durable, and readable after a start.
            &[
                Write(NotApplied(5)),
                Read(Seen::NotApplied(5)),
                Read(Seen::Unlisted),
                Restart,
                Read(Seen::At(5)),
            ],
        ];
        for (n, steps) in fine.iter().enumerate() {
            assert_eq!(problems(steps), [""; 0], "case {n}");
        }
    }

    #[test]
    fn what_a_server_must_not_say() {
        let broken: &[(&[Step], &str)] = &[
            (&[Write(Created(5)), Read(Seen::Absent)], "was there"),
            (&[Write(Created(5)), Restart, List(&[])], "was there"),
            (&[Write(Exists(5)), Read(Seen::Unlisted)], "was there"),
            (&[Write(Created(5)), Read(Seen::Undecided)], "was there"),
            (&[Write(Created(5)), Write(NotWritten)], "was there"),
            (&[Write(Created(5)), Write(Created(5))], "created 2 times"),
            (&[Write(Created(5)), Read(Seen::At(6))], "positions [5, 6]"),
            (&[Write(Created(5)), Restart, List(&[(ONE, 6)])], "positions [5, 6]"),
            // A value that appears and vanishes.
            (&[Write(Indeterminate), Read(Seen::At(5)), Read(Seen::Absent)], "was there"),
            (&[Open, Read(Seen::At(5)), End(NotWritten)], "no write can"),
            (&[Write(NotApplied(5)), Read(Seen::Absent)], "was there"),
            (&[Write(NotApplied(5)), Restart, Read(Seen::Unlisted)], "was there"),
            (&[Read(Seen::At(5)), Read(Seen::NotApplied(5))], "was there"),
            // One that appears although it was denied.
            (&[Write(NotWritten), Restart, Read(Seen::At(5))], "no write can"),
            (&[Write(NotWritten), Write(Exists(5))], "no write can"),
            (&[Write(Refused), Read(Seen::At(5))], "no write can"),
            (&[Write(Indeterminate), Write(NotWritten), Restart, Read(Seen::At(5))], "not_written"),
            (&[Write(Indeterminate), Read(Seen::Absent), Read(Seen::At(5))], "said no"),
            (&[Open, Lost, Restart, Read(Seen::Absent), Restart, Read(Seen::At(5))], "said no"),
            (&[Read(Seen::At(5)), Write(Created(5))], "no write can"),
            // Each denial leaves some author, but no author fits both.
            (
                &[
                    Open,
                    Write(NotWritten),
                    End(Indeterminate),
                    Read(Seen::Absent),
                    Restart,
                    List(&[(ONE, 5)]),
                ],
                "said no",
            ),
            // Nobody is at it any more.
            (&[Write(Indeterminate), Restart, Read(Seen::Undecided)], "undecided"),
            (&[Read(Seen::Undecided)], "undecided"),
            (&[Write(Refused), Read(Seen::Undecided)], "undecided"),
            (&[Write(NotWritten), Read(Seen::Undecided)], "undecided"),
            (&[List(&[(TWO, 7)])], "nobody sent it"),
        ];
        for (n, (steps, words)) in broken.iter().enumerate() {
            let found = problems(steps);
            assert!(found.iter().any(|one| one.contains(words)), "case {n}: {found:?}");
        }
    }

    #[test]
    fn two_records_cannot_share_a_position() {
        let journal = Journal::new(Duration::from_secs(10));
        journal.answered(journal.send(ONE), Created(5));
        journal.answered(journal.send(TWO), Created(5));
        let problems = journal.judge().problems;
        assert!(problems.iter().any(|one| one.starts_with("position 5")), "{problems:?}");
    }

    #[test]
    fn the_log_never_goes_back_for_a_reader() {
        let journal = Journal::new(Duration::from_secs(10));
        let early = journal.begin();
        journal.answered(journal.send(ONE), Created(5));
        // It began before: it may show less.
        journal.snapshot(&early, 4);
        journal.snapshot(&journal.begin(), 5);
        assert_eq!(journal.judge().problems, [""; 0]);
        journal.snapshot(&journal.begin(), 4);
        assert_eq!(journal.judge().problems.len(), 1);
    }

    #[test]
    fn a_hang_is_a_problem() {
        let journal = Journal::new(Duration::ZERO);
        let sending = journal.send(ONE);
        std::thread::sleep(Duration::from_millis(2));
        journal.answered(sending, Created(5));
        assert_eq!(journal.judge().problems.len(), 1);
    }
}
