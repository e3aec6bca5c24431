//! Names in a configuration file that nobody knows, and the one that was probably meant.

/// Longer names are nobody's typing error.
const MAX_MEANT_BYTES: usize = 64;

/// Sections of the configuration file, for the server and for clients.
pub const SECTIONS: [&str; 2] = ["server", "client"];

/// Why a section counts for nothing, unless it is one of the [`SECTIONS`].
pub fn unknown_section(name: &str) -> Option<String> {
    (!SECTIONS.contains(&name)).then(|| {
        let nearest = nearest(name, SECTIONS).map(|known| format!("[{known}]"));
        format!("there is no such section{}", did_you_mean(nearest))
    })
}

/// Why a key that is none of those that are `known` counts for nothing.
pub fn unknown_key<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let nearest = nearest(name, known).map(str::to_owned);
    format!("there is no such key{}", did_you_mean(nearest))
}

fn did_you_mean(nearest: Option<String>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// The name that somebody probably meant who wrote `name`: at most one letter in three is wrong.
fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > MAX_MEANT_BYTES {
        return None;
    }
    let name = name.to_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&name, &known.to_lowercase());
    let nearest = known.into_iter().min_by_key(distance)?;
    (distance(&nearest) * 3 <= nearest.len()).then_some(nearest)
}
