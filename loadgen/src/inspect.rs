//! What is in a trace.

use std::collections::BTreeMap;

use pyzor_protocol::{Operation, Request, Scratch};

use crate::error::Error;
use crate::flags::InspectFlags;
use crate::trace;

/// Reads the whole trace and prints what is in it.
pub(crate) fn run(flags: &InspectFlags) -> Result<(), Error> {
    let mut trace = trace::open(&flags.trace.file, &flags.trace.options(flags.seed))?;
    if trace.is_endless() {
        return Err(Error::Endless(flags.trace.file.clone()));
    }
    let mut operations: BTreeMap<&str, u64> = BTreeMap::new();
    let mut scratch = Scratch::new();
    let mut last = std::time::Duration::ZERO;
    let mut sources = std::collections::HashSet::new();
    for event in &mut trace {
        let event = event?;
        last = event.at;
        sources.insert(event.source);
        let operation = Request::parse(&event.datagram, &mut scratch).operation();
        *operations
            .entry(operation.map_or("other", Operation::name))
            .or_default() += 1;
    }
    println!("{}, {last:?} long", trace.format());
    for (operation, count) in operations {
        println!("{operation:>10} {count}");
    }
    println!("{} sources", sources.len());
    println!("passed over: {}", trace.skipped());
    Ok(())
}
