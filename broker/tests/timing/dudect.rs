//! Whether two kinds of input take the same time, after "dude, is my code constant time?" (Reparaz, Balasch,
//! Verbauwhede, 2017): both are measured in random order, what an interrupt has stretched is cut off at
//! several heights, and Welch's t says how sure it is that the means differ.

use rand_core::Rng;

/// Beyond this the means differ, says the paper.
pub(crate) const LEAK: f64 = 10.0;
/// A machine that does other things can make a difference out of nothing, but not time after time.
const ATTEMPTS: usize = 4;
/// In per cent of all measurements, what is kept of them.
const KEPT: [usize; 5] = [15, 30, 50, 80, 100];

/// Measures one input of a class, in nanoseconds.
pub(crate) trait Measure {
    /// How long one took.
    fn once(&mut self, class: usize) -> f64;
}

impl<F: FnMut(usize) -> f64> Measure for F {
    fn once(&mut self, class: usize) -> f64 {
        self(class)
    }
}

/// Welch's t of two samples.
pub(crate) fn welch(one: &[f64], other: &[f64]) -> f64 {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (a, b) = (mean(one), mean(other));
    let spread = |of: &[f64], mean: f64| {
        let squares: f64 = of.iter().map(|x| (x - mean).powi(2)).sum();
        squares / (of.len() as f64 - 1.0) / of.len() as f64
    };
    let error = (spread(one, a) + spread(other, b)).sqrt();
    if error == 0.0 { 0.0 } else { (a - b) / error }
}

/// The largest t between the first class and each other one, over all heights at which is cut.
fn widest(times: &[Vec<f64>]) -> Vec<f64> {
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let against = |class: &Vec<f64>| {
        let at = |kept: usize| {
            let most = all[(all.len() * kept / 100).min(all.len()) - 1];
            let cut = |of: &[f64]| {
                of.iter()
                    .copied()
                    .filter(|x| *x <= most)
                    .collect::<Vec<_>>()
            };
            let (one, other) = (cut(&times[0]), cut(class));
            // A class that is cut off nearly whole is not like the other.
            match one.len().min(other.len()) {
                0..10 => f64::INFINITY,
                _ => welch(&one, &other).abs(),
            }
        };
        KEPT.map(at).into_iter().fold(0.0, f64::max)
    };
    times[1..].iter().map(against).collect()
}

/// How sure it is that a class differs from the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// In the attempt in which it looked most like the first: what differs, differs there too.
    pub(crate) least: f64,
    /// In the attempt in which it looked least like it: what is never seen here, is not seen at all.
    pub(crate) most: f64,
    /// By how much the medians differ, in the attempt in which that was least: in parts of the first's.
    pub(crate) apart: f64,
}

impl Seen {
    /// It differs each time, and by more than a two-hundredth: less is lost among what else a request takes,
    /// and a thousand times smaller than what a network adds.
    pub(crate) fn is_a_leak(&self) -> bool {
        self.least > LEAK && self.apart.abs() > 0.005
    }
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Measures so many classes so often each, and compares each but the first with the first.
pub(crate) fn compare(
    classes: usize,
    each: usize,
    rng: &mut impl Rng,
    measure: &mut impl Measure,
) -> Vec<Seen> {
    let unseen = Seen {
        least: f64::INFINITY,
        most: 0.0,
        apart: f64::INFINITY,
    };
    let mut seen = vec![unseen; classes - 1];
    for _ in 0..ATTEMPTS {
        let mut order: Vec<usize> = (0..classes * each).map(|at| at % classes).collect();
        for at in (1..order.len()).rev() {
            let other = usize::try_from(rng.next_u64() % (at as u64 + 1)).unwrap();
            order.swap(at, other);
        }
        let mut times = vec![Vec::with_capacity(each); classes];
        for class in order {
            let time = measure.once(class);
            times[class].push(time);
        }
        let first = median(&times[0]);
        for ((seen, t), class) in seen.iter_mut().zip(widest(&times)).zip(&times[1..]) {
            let apart = (median(class) - first) / first;
            *seen = Seen {
                least: seen.least.min(t),
                most: seen.most.max(t),
                apart: if apart.abs() < seen.apart.abs() {
                    apart
                } else {
                    seen.apart
                },
            };
        }
    }
    seen
}

#[test]
fn t_is_what_the_formula_says() {
    // Worked by hand: means 2 and 4, variances 1 and 4, three of each.
    let t = welch(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]);
    assert!((t - (-2.0 / (5.0_f64 / 3.0).sqrt())).abs() < 1e-12);
    assert_eq!(welch(&[1.0, 1.0], &[1.0, 1.0]), 0.0);
}
