//! Where the metadata service is and how long to wait for it: the AWS SDKs' environment variables.

use std::time::Duration;

use url::Url;

use super::ImdsError;

const IPV4: &str = "http://169.254.169.254/";
const IPV6: &str = "http://[fd00:ec2::254]/";

pub(super) const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const TIMEOUT: &str = "AWS_METADATA_SERVICE_TIMEOUT";
const ATTEMPTS: &str = "AWS_METADATA_SERVICE_NUM_ATTEMPTS";

/// What the environment says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Ends in a slash, so that item paths can be joined to it.
    pub(super) base: Url,
    /// For connecting, and again for each whole request.
    pub(super) timeout: Duration,
    /// Tries per item, at least 1.
    pub(super) attempts: usize,
}

impl Config {
    /// An empty variable counts as unset, as in the SDKs.
    pub(super) fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, ImdsError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        if get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(ImdsError::Disabled);
        }
        // The endpoint wins over the mode.
        let (variable, base) = match (get(ENDPOINT), get(MODE)) {
            (Some(endpoint), _) => (ENDPOINT, endpoint),
            (None, None) => (MODE, IPV4.to_owned()),
            (None, Some(mode)) if mode.eq_ignore_ascii_case("ipv4") => (MODE, IPV4.to_owned()),
            (None, Some(mode)) if mode.eq_ignore_ascii_case("ipv6") => (MODE, IPV6.to_owned()),
            (None, Some(_)) => {
                return Err(ImdsError::Config {
                    variable: MODE,
                    expected: "IPv4 or IPv6",
                });
            }
        };
        Ok(Self {
            base: endpoint(variable, &base)?,
            timeout: Duration::from_secs(number(&get, TIMEOUT, "whole seconds from 1 to 60", 60)?),
            attempts: usize::try_from(number(&get, ATTEMPTS, "a number from 1 to 100", 100)?)
                .unwrap_or(1),
        })
    }
}

fn endpoint(variable: &'static str, text: &str) -> Result<Url, ImdsError> {
    let refusal = ImdsError::Config {
        variable,
        expected: "an address like http://169.254.169.254, without user, query or fragment",
    };
    let Ok(mut base) = Url::parse(text) else {
        return Err(refusal);
    };
    let plain = base.scheme() == "http"
        && base.has_host()
        && base.username().is_empty()
        && base.password().is_none()
        && base.query().is_none()
        && base.fragment().is_none();
    if !plain {
        return Err(refusal);
    }
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    Ok(base)
}

/// A number from 1 to `most`; 1 when the variable is unset.
fn number(
    get: &dyn Fn(&str) -> Option<String>,
    variable: &'static str,
    expected: &'static str,
    most: u64,
) -> Result<u64, ImdsError> {
    match get(variable) {
        None => Ok(1),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number))
            .ok_or(ImdsError::Config { variable, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ImdsError> {
        Config::from_env(&|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn base(variables: &[(&str, &str)]) -> String {
        config(variables).expect("a configuration").base.to_string()
    }

    #[test]
    fn without_variables_it_is_the_ipv4_address_one_second_and_one_attempt() {
        let config = config(&[]).expect("defaults");
        assert_eq!(config.base.as_str(), IPV4);
        assert_eq!(config.timeout, Duration::from_secs(1));
        assert_eq!(config.attempts, 1);
        assert_eq!(base(&[(ENDPOINT, ""), (MODE, "")]), IPV4);
    }

    #[test]
    fn the_mode_chooses_the_address_and_the_endpoint_wins_over_it() {
        assert_eq!(base(&[(MODE, "iPv6")]), IPV6);
        assert_eq!(base(&[(MODE, "IPV4")]), IPV4);
        let given = [(MODE, "IPv6"), (ENDPOINT, "http://127.0.0.1:81/x")];
        assert_eq!(base(&given), "http://127.0.0.1:81/x/");
    }

    #[test]
    fn disabled_means_disabled_in_any_case() {
        for value in ["true", "TRUE", "True"] {
            let refusal = config(&[(DISABLED, value)]).expect_err("disabled");
            assert!(matches!(refusal, ImdsError::Disabled));
            assert!(!refusal.is_retryable());
        }
        assert!(config(&[(DISABLED, "false")]).is_ok());
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_the_variable_name() {
        for (variable, value) in [
            (MODE, "IPv5"),
            (ENDPOINT, "169.254.169.254"),
            (ENDPOINT, "https://169.254.169.254"),
            (ENDPOINT, "file:///etc/passwd"),
            (ENDPOINT, "http://user@169.254.169.254"),
            (ENDPOINT, "http://169.254.169.254/?x=1"),
            (ENDPOINT, "http://169.254.169.254/#x"),
            (TIMEOUT, "0"),
            (TIMEOUT, "61"),
            (TIMEOUT, "1.5"),
            (ATTEMPTS, "-1"),
            (ATTEMPTS, "many"),
        ] {
            let refusal = config(&[(variable, value)]).expect_err(value);
            assert!(refusal.to_string().starts_with(variable), "{refusal}");
        }
    }
}
