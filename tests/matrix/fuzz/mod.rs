//! What must hold for any bytes at all: no panic, no input that takes long, no answer that is worse than its question.
//! Why a mutator of our own: it runs on stable Rust in every `cargo test`, from the matrix's answers as its seeds, and
//! knows the structure of what it breaks. Each target runs for its share of `WEIR_FUZZ_SECONDS` (12), from `WEIR_FUZZ_SEED`.
//!
//! An input that failed once is kept in `tests/corpus/<target>/` and replayed before anything else.

mod dice;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use weir::clock::Clock;

use dice::Dice;

/// Targets run side by side; each gets this part of the time.
const TARGETS: u32 = 8;

/// What one input may take. Measured again where it took longer: a loaded machine is not a slow parser.
const SLOW: Duration = Duration::from_millis(100);

/// Largest input, in bytes.
const LARGEST: usize = 64 * 1024;

/// Makes an input of the seeds.
type Mutate<'a> = &'a dyn Fn(&mut Dice, &[Vec<u8>]) -> Vec<u8>;

/// Says what is wrong with what was made of an input. The dice depend on the input alone, so that it can be replayed.
type Check<'a> = &'a dyn Fn(&[u8], &mut Dice) -> Result<(), String>;

/// A thing to be fuzzed.
struct Target<'a> {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    slow: Duration,
    mutate: Mutate<'a>,
    check: Check<'a>,
}

impl Target<'_> {
    fn run(&self) {
        let clock = Clock::system();
        let began = clock.now();
        let budget = Duration::from_secs(number("WEIR_FUZZ_SECONDS", 12)) / TARGETS;
        let seed = number("WEIR_FUZZ_SEED", 20_261_121);
        let kept = kept(self.name);
        for (name, input) in &kept {
            self.one(&clock, input).unwrap_or_else(|why| self.fail(&format!("kept as {name}"), &why, input));
        }
        for input in &self.seeds {
            self.one(&clock, input).unwrap_or_else(|why| self.fail("a seed, unchanged", &why, input));
        }
        let mut inputs = 0_u64;
        while clock.now().since(began) < budget {
            let mut dice = Dice::new(seed ^ inputs.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut input = (self.mutate)(&mut dice, &self.seeds);
            input.truncate(LARGEST);
            inputs += 1;
            self.one(&clock, &input).unwrap_or_else(|why| {
                self.fail(&format!("WEIR_FUZZ_SEED={seed}, input {inputs}"), &why, &input)
            });
        }
        println!("{}: {inputs} inputs from seed {seed}, {} kept", self.name, kept.len());
        assert!(inputs > 20, "{}: only {inputs} inputs in {budget:?}", self.name);
    }

    fn one(&self, clock: &Clock, input: &[u8]) -> Result<(), String> {
        // A stack that overflows takes the whole process with it: its input is found here.
        let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-last", self.name));
        std::fs::write(last, input).expect("a file");
        for attempt in 1.. {
            let began = clock.now();
            let result = catch_unwind(AssertUnwindSafe(|| (self.check)(input, &mut Dice::of(input))));
            result.map_err(|panic| format!("panicked: {}", words(&*panic)))??;
            let took = clock.now().since(began);
            if took <= self.slow {
                break;
            }
            if attempt == 5 {
                return Err(format!("took {took:?}"));
            }
        }
        Ok(())
    }

    fn fail(&self, origin: &str, why: &str, input: &[u8]) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!(
            "target {}, {origin}: {why}\ntext: {}\nkeep it: echo {hex} | xxd -r -p > tests/corpus/{}/what-broke",
            self.name,
            String::from_utf8_lossy(input),
            self.name,
        );
    }
}

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var_os(name);
    value.map_or(default, |value| value.to_string_lossy().parse().expect("a number"))
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Inputs that failed once.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}
