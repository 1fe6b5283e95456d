//! In how many ways one can be wrong.
//!
//! Two that are wrong agree by chance once in as many cases. It matters twice: agreement means more
//! where there are many ways, and who is right in one case of three is worth nothing about yes or
//! no and much about a telephone number. Without it there is a second, absurd way to explain all
//! claims: that whatever most agents say is wrong. Measured from the claims themselves, as the
//! popularity of false values (Dong, Saha, Srivastava, "Less is More: Selecting Sources Wisely for
//! Integration", PVLDB 6(2), 2012).

use super::questions::{Manner, Questions};
use super::{WAYS, WAYS_MAX, WAYS_PAIRS};

/// By topic, at least 1. `truth` is by candidate, `independence` by claim: copies of one mistake are
/// not a second one. O(claims).
pub(super) fn ways_to_be_wrong(
    questions: &Questions,
    truth: &[f64],
    independence: &[f64],
) -> Vec<f64> {
    // Pairs of wrong claims about one question: those that agree, and all.
    let mut pairs = vec![(WAYS_PAIRS, WAYS_PAIRS * WAYS); questions.topics.len()];
    let mut open = vec![false; questions.topics.len()];
    let mut voices: Vec<(f64, f64)> = Vec::new();
    for (question, asked) in questions.asked.iter().enumerate() {
        if asked.yes_or_no {
            continue;
        }
        open[asked.topic as usize] = true;
        let candidates = questions.candidates(question);
        voices.clear();
        voices.resize(candidates.len(), (0.0, 0.0));
        for index in questions.claims(question) {
            let claim = &questions.claims[index];
            if claim.manner == Manner::Says {
                let voice = claim.weight * independence[index];
                let (sum, squares) = &mut voices[claim.candidate as usize - candidates.start];
                *sum += voice;
                *squares += voice * voice;
            }
        }
        let (mut wrong, mut agree, mut with_itself) = (0.0, 0.0, 0.0);
        for (candidate, (sum, squares)) in candidates.zip(&voices) {
            let doubt = 1.0 - truth[candidate];
            wrong += doubt * sum;
            agree += doubt * doubt * (sum * sum - squares);
            with_itself += doubt * doubt * squares;
        }
        let all = wrong * wrong - with_itself;
        if all > 1e-9 {
            // A question with many claims has many pairs, but is one case.
            let weight = 1.0 / (1.0 + all / 4.0);
            let (agreeing, of) = &mut pairs[asked.topic as usize];
            *agreeing += weight * agree.max(0.0);
            *of += weight * all;
        }
    }
    let ways = pairs
        .into_iter()
        .zip(open)
        .map(|((agree, all), open)| if open { (all / agree).clamp(1.0, WAYS_MAX) } else { 1.0 });
    ways.collect()
}

/// Before anything is known.
pub(super) fn ways_at_first(questions: &Questions) -> Vec<f64> {
    vec![WAYS; questions.topics.len()]
}
