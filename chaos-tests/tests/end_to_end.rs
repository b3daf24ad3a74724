//! The main job on real parts: three manager processes, three real engines, one real swarm, a killed leader.

use skep_chaos_tests::story::{STAGES, Story};

#[test]
fn three_managers_and_three_real_engines_survive_the_leader_being_killed_in_the_middle() {
    let mut story = Story::begin("end-to-end", 28_443).expect("three managers start");
    for stage in STAGES.iter().filter(|stage| !stage.measures) {
        let seen =
            (stage.tell)(&mut story).unwrap_or_else(|error| panic!("stage '{}': {error:#}", stage.title));
        println!("{}: {seen}", stage.title);
    }
    story.end().expect("nothing is left");
}
