//! `keyholder token verify --batch`: a line in, a line out.
//!
//! Invariant: every line gets exactly one answer, in order, and none of them ends the batch.

use std::io::{BufRead, Read};

use kh_verify::{Case, Reason, case::CASE_BYTES_MAX};
use serde::Serialize;
use serde_json::Value;

use super::Judge;
use crate::{
    cli::Context,
    output::{Exit, Failure},
};

/// The answer to a line.
#[derive(Serialize)]
struct Answer {
    id: Value,
    valid: bool,
    reason: Option<&'static str>,
}

pub(super) fn run(judge: &Judge, context: &Context) -> Result<Exit, Failure> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    while next_line(&mut input, &mut line)? {
        let outcome = judged(judge, &line);
        let answer = Answer { id: id(&line), valid: outcome.is_ok(), reason: outcome.err().map(Reason::as_str) };
        let answer =
            serde_json::to_string(&answer).map_err(|error| Failure::bug("an answer is JSON").caused_by(&error))?;
        context.terminal.out(&format!("{answer}\n"));
    }
    Ok(Exit::Done)
}

fn judged(judge: &Judge, line: &[u8]) -> Result<(), Reason> {
    let case = Case::parse(line, judge.symmetric)?;
    let own = case.keys().map(|keys| vec![keys]);
    // keys on the command line are for lines that bring none
    let sets = own.unwrap_or_else(|| judge.keys());
    if sets.is_empty() && judge.sets.is_empty() {
        return Err(Reason::BadInput);
    }
    judge.claims(case.token(), &sets).map(drop)
}

/// What the line calls itself, as far as it can be read.
fn id(line: &[u8]) -> Value {
    let read = serde_json::from_slice::<Value>(line).ok();
    read.and_then(|mut line| line.get_mut("id").map(Value::take)).unwrap_or_default()
}

/// The next line without its end. Of one that is too long only so much is kept that it is seen to be.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| Failure::usage("standard input cannot be read").caused_by(&error);
    line.clear();
    let limit = CASE_BYTES_MAX as u64 + 2;
    if input.take(limit).read_until(b'\n', line).map_err(failed)? == 0 {
        return Ok(false);
    }
    if line.pop_if(|last| *last == b'\n').is_none() && line.len() > CASE_BYTES_MAX {
        input.skip_until(b'\n').map_err(failed)?;
    }
    line.pop_if(|last| *last == b'\r');
    Ok(true)
}
