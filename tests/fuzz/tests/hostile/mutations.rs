//! Every target with its inputs, and with so many that are bent (`FUZZ_SEED`, `FUZZ_PERCENT`).

use fuzz::drive;
use fuzz::targets::{self, ALL};

macro_rules! targets {
    ($($name:ident $test:ident;)*) => {
        $(
            #[test]
            fn $test() {
                let target = targets::named(stringify!($name)).expect("a target of this name");
                drive::run(target);
            }
        )*

        #[test]
        fn every_target_has_its_test() {
            let tested = [$(stringify!($name)),*];
            let all: Vec<_> = ALL.iter().map(|target| target.name).collect();
            assert_eq!(all, tested);
        }
    };
}

targets! {
    envelopes no_bytes_are_two_requests_or_two_answers;
    bodies no_body_has_two_encodings;
    acts no_act_has_two_encodings;
    statement no_statement_is_forged;
    admin_set no_admin_set_is_forged;
    ticket no_ticket_is_forged;
    wrapped no_wrap_is_of_a_producer_that_did_not_sign_it;
    denial a_denial_hits_what_its_selector_names;
    entry no_entry_has_two_encodings;
    note no_checkpoint_is_forged;
    receipt no_receipt_is_forged;
    witness a_witness_cosigns_only_what_continues;
    evidence no_evidence_is_forged;
    iid no_identity_document_is_forged;
    user_data no_user_data_is_two_bootstraps;
    certificate no_certificate_makes_the_reader_of_certificates_fall;
    lines no_line_has_two_meanings;
    login no_login_is_forged;
    renew no_renewal_is_forged;
    issue no_ticket_gives_more_than_was_asked_for_and_allowed;
    watch no_ticket_is_watched_but_by_its_holder;
    subscribe no_subscription_is_forged;
    administer no_statement_is_obeyed_but_a_signed_one;
    present no_ticket_is_presented_but_by_its_holder;
    batch no_batch_is_served_but_the_holders;
    follow no_feed_is_believed_but_the_brokers;
    object no_object_is_opened_but_whole;
    metadata no_metadata_has_two_encodings;
    agent no_message_to_the_agent_has_two_encodings;
    blob no_ciphertext_has_two_encodings;
    s3ec metadata_of_the_s3_encryption_client_have_one_meaning;
    records no_record_is_lost_by_being_read;
    config a_configuration_is_read_or_refused_in_one_line;
    sealed nothing_sealed_is_forged;
    policy a_policy_decides_or_is_refused_in_one_line;
}
