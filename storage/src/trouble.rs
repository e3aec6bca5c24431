//! A trouble that lasts or comes back, in the log: a line when it begins, one a minute while it lasts, one when it is over.
//!
//! A disk that is full, say, fails every attempt to write to it, and what fails is tried again several times per second.

use std::time::{Duration, Instant};

/// How often the same trouble is logged at most.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Decides what of one trouble is logged.
#[derive(Debug, Default)]
pub struct Trouble {
    last_said: Option<Instant>,
    /// It was said that the trouble is there, and not yet that it is over.
    is_said: bool,
}

impl Trouble {
    /// Nothing has been said.
    pub const fn new() -> Self {
        Self {
            last_said: None,
            is_said: false,
        }
    }

    /// To be called whenever the trouble shows: whether to log it now.
    pub fn is_news(&mut self) -> bool {
        self.is_news_at(Instant::now())
    }

    /// To be called when all is well: whether to log that the trouble is over, at the level at which it was said to be there.
    ///
    /// Trouble that comes back within a minute is not logged again before that minute has passed.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.is_said)
    }

    fn is_news_at(&mut self, now: Instant) -> bool {
        let is_news = self
            .last_said
            .is_none_or(|said| now.saturating_duration_since(said) >= AGAIN_AFTER);
        if is_news {
            self.last_said = Some(now);
            self.is_said = true;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_trouble_is_said_once_a_minute() {
        let (start, mut trouble) = (Instant::now(), Trouble::default());
        let said = (0..180).filter(|&s| trouble.is_news_at(start + Duration::from_secs(s)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 60, 120]);
        assert!(trouble.is_over());
        assert!(!trouble.is_over());
    }

    #[test]
    fn trouble_that_comes_and_goes_is_said_no_more_often() {
        let (start, mut trouble) = (Instant::now(), Trouble::default());
        assert!(trouble.is_news_at(start) && trouble.is_over());
        for second in 1..60 {
            assert!(!trouble.is_news_at(start + Duration::from_secs(second)));
            assert!(!trouble.is_over(), "nothing was said that could be over");
        }
        assert!(trouble.is_news_at(start + AGAIN_AFTER) && trouble.is_over());
    }
}
