//! Where stores take their credentials from: the environment, the files of the vendors' tools, and a cloud's own machines.

use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::Mutex;
use url::{Position, Url};

use super::options::Options;
use super::profile::{self, Profile};
use crate::error::{Error, Result, invalid};

/// How long before they expire credentials of a process are renewed.
const RENEWAL: TimeDelta = TimeDelta::minutes(5);

/// Gives an S3 store its credentials, its region and its endpoint.
///
/// # Errors
/// Where there are none, or the profile has some that only the AWS tools can fetch.
pub(super) fn aws(url: &Url, options: &Options, mut builder: AmazonS3Builder) -> Result<AmazonS3Builder> {
    use object_store::aws::AmazonS3ConfigKey as Key;
    let [config, credentials, name] =
        ["aws_config_file", "aws_shared_credentials_file", "aws_profile"].map(|key| options.get(&[key]));
    let profile = profile::read(config, credentials, name)?;
    let of_profile = |key: &str| profile.get(key).map(String::as_str);

    if options.get(&["aws_region", "aws_default_region"]).is_none()
        && let Some(region) = of_profile("region")
    {
        builder = builder.with_region(region);
    }
    let ignored = options.is_set(&["aws_ignore_configured_endpoint_urls"]);
    let of_profile_unless_ignored = |key| of_profile(key).filter(|_| !ignored);
    let endpoint = options
        .get(&["aws_endpoint_url_s3"])
        .or(options.get(&["aws_endpoint_url", "aws_endpoint"]))
        .or(of_profile_unless_ignored("s3.endpoint_url"))
        .or(of_profile_unless_ignored("endpoint_url"));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(endpoint) = options.get(&["aws_ec2_metadata_service_endpoint", "aws_metadata_endpoint"]) {
        builder = builder.with_metadata_endpoint(endpoint);
    }

    if options.is_set(&["aws_skip_signature", "aws_no_sign_request"]) {
        return Ok(builder.with_skip_signature(true));
    }
    let has = |keys: &[&str]| keys.iter().all(|key| options.get(&[key]).is_some());
    if options.get(&["aws_access_key_id", "aws_secret_access_key"]).is_some()
        || has(&["aws_web_identity_token_file", "aws_role_arn"])
    {
        return Ok(builder);
    }
    if let Some(role) = of_profile("role_arn") {
        let Some(token) = of_profile("web_identity_token_file") else { return Err(only_by_tools("a role", name)) };
        builder = builder.with_config(Key::WebIdentityTokenFile, token).with_config(Key::RoleArn, role);
        return Ok(match of_profile("role_session_name") {
            Some(session) => builder.with_config(Key::RoleSessionName, session),
            None => builder,
        });
    }
    if let (Some(id), Some(secret)) = (of_profile("aws_access_key_id"), of_profile("aws_secret_access_key")) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        return Ok(match of_profile("aws_session_token") {
            Some(token) => builder.with_token(token),
            None => builder,
        });
    }
    if let Some(command) = of_profile("credential_process") {
        return Ok(builder.with_credentials(Arc::new(Process::new(command))));
    }
    if is_of_a_login(&profile) {
        return Err(only_by_tools("a login", name));
    }
    if has(&["aws_container_credentials_relative_uri"])
        || has(&["aws_container_credentials_full_uri", "aws_container_authorization_token_file"])
    {
        return Ok(builder);
    }
    let asks = options.get(&["aws_ec2_metadata_service_endpoint", "aws_metadata_endpoint"]).is_some() || is_ec2();
    if asks && !options.is_set(&["aws_ec2_metadata_disabled"]) {
        return Ok(builder);
    }
    let place = match name {
        Some(name) => format!("profile {name:?}"),
        None => "profile \"default\"".to_owned(),
    };
    Err(none_for(
        url,
        &format!(
            "neither the environment nor {place} of ~/.aws has any; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_PROFILE, or for a public bucket AWS_SKIP_SIGNATURE=true"
        ),
    ))
}

fn is_of_a_login(profile: &Profile) -> bool {
    ["sso_session", "sso_start_url", "login_session"].iter().any(|key| profile.contains_key(*key))
}

fn only_by_tools(what: &str, profile: Option<&str>) -> Error {
    let profile = profile.unwrap_or("default");
    Error::Invalid(format!(
        "profile {profile:?} of ~/.aws takes its credentials from {what}, which the AWS tools alone can do: run `eval \
         \"$(aws configure export-credentials --profile {profile} --format env)\"`, or give a profile of its own the line \
         credential_process = aws configure export-credentials --profile {profile} --format process"
    ))
}

fn none_for(url: &Url, how: &str) -> Error {
    Error::Invalid(format!("no credentials for {}: {how}", &url[..Position::BeforePath]))
}

/// Refuses an Azure store without credentials, unless this is a machine that Azure gives some.
pub(super) fn require_azure(url: &Url, options: &Options) -> Result<()> {
    let keys = [
        "azure_storage_account_key",
        "azure_storage_access_key",
        "azure_storage_master_key",
        "azure_storage_sas_key",
        "azure_storage_sas_token",
        "azure_storage_token",
        "azure_storage_client_secret",
        "azure_client_secret",
        "azure_federated_token_file",
        "azure_msi_endpoint",
        "azure_identity_endpoint",
        "azure_fabric_token_service_url",
    ];
    let flags = ["azure_storage_use_emulator", "azure_use_emulator", "azure_use_azure_cli", "azure_skip_signature"];
    if options.get(&keys).is_some() || options.is_set(&flags) || dmi("chassis_asset_tag") == AZURE_TAG {
        return Ok(());
    }
    Err(none_for(
        url,
        "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or \
         AZURE_USE_AZURE_CLI=true, or for a public container AZURE_SKIP_SIGNATURE=true",
    ))
}

/// Refuses a Google store without credentials, unless this is a machine that Google gives some.
pub(super) fn require_google(url: &Url, options: &Options) -> Result<()> {
    let keys = [
        "google_service_account",
        "google_service_account_path",
        "google_service_account_key",
        "google_application_credentials",
    ];
    let of_tools = || {
        let home = std::env::home_dir().unwrap_or_default();
        home.join(".config/gcloud/application_default_credentials.json").exists()
    };
    if options.get(&keys).is_some()
        || options.is_set(&["google_skip_signature"])
        || of_tools()
        || dmi("product_name") == GOOGLE_PRODUCT
    {
        return Ok(());
    }
    Err(none_for(
        url,
        "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS, or for a public bucket \
         GOOGLE_SKIP_SIGNATURE=true",
    ))
}

const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";
const GOOGLE_PRODUCT: &str = "Google Compute Engine";

/// Whether this is a machine of EC2: what its firmware says, without asking the network.
fn is_ec2() -> bool {
    dmi("sys_vendor") == "Amazon EC2" || dmi("bios_version").contains("amazon")
}

fn dmi(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/sys/class/dmi/id/{name}"));
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The command of a profile's `credential_process`, and what it said last.
struct Process {
    command: String,
    said: Mutex<Option<Fetched>>,
}

struct Fetched {
    credential: Arc<AwsCredential>,
    expires: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Process").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

impl Process {
    fn new(command: &str) -> Self {
        Self { command: command.to_owned(), said: Mutex::default() }
    }

    async fn run(&self) -> Result<Said> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            invalid!("credential_process ended by {}: {}", output.status, said.trim());
        }
        let said = serde_json::from_slice(&output.stdout);
        said.map_err(|error| Error::Invalid(format!("credential_process wrote no credentials: {error}")))
    }
}

#[async_trait]
impl CredentialProvider for Process {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut said = self.said.lock().await;
        if let Some(Fetched { credential, expires }) = &*said
            && expires.is_none_or(|expires| expires - RENEWAL > Utc::now())
        {
            return Ok(Arc::clone(credential));
        }
        let fetched = self.run().await;
        let Said { access_key_id, secret_access_key, session_token, expiration } = fetched.map_err(|error| {
            object_store::Error::Unauthenticated { path: "credential_process".to_owned(), source: error.into() }
        })?;
        let credential =
            Arc::new(AwsCredential { key_id: access_key_id, secret_key: secret_access_key, token: session_token });
        *said = Some(Fetched { credential: Arc::clone(&credential), expires: expiration });
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(options: &[(&str, &str)]) -> Result<object_store::aws::AmazonS3> {
        let url = Url::parse("s3://bucket/x").unwrap();
        let options = Options::new(options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let builder = aws(&url, &options, options.on(AmazonS3Builder::new().with_url(url.as_str())))?;
        Ok(builder.build()?)
    }

    async fn credential(options: &[(&str, &str)]) -> AwsCredential {
        let credential = build(options).unwrap().credentials().get_credential().await.unwrap();
        AwsCredential {
            key_id: credential.key_id.clone(),
            secret_key: credential.secret_key.clone(),
            token: credential.token.clone(),
        }
    }

    #[tokio::test]
    async fn credentials_come_from_where_the_aws_tools_take_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let process =
            "echo '{\"Version\": 1, \"AccessKeyId\": \"P\", \"SecretAccessKey\": \"S\", \"SessionToken\": \"T\"}'";
        let text = format!(
            "[default]\naws_access_key_id = D\naws_secret_access_key = S\n[profile process]\ncredential_process = {process}\n\
             [profile token]\naws_access_key_id = A\naws_secret_access_key = S\naws_session_token = T\n\
             [profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n[profile sso]\nsso_session = x\n\
             [profile empty]\nregion = eu-west-1\n[profile broken]\ncredential_process = echo no >&2; exit 3\n"
        );
        std::fs::write(path("config"), text).unwrap();
        let config = path("config");
        let config = ("AWS_CONFIG_FILE", config.as_str());
        let of = async |profile: &'static str| credential(&[config, ("AWS_PROFILE", profile)]).await;
        assert_eq!(credential(&[config]).await.key_id, "D");
        assert_eq!(of("process").await.token.as_deref(), Some("T"));
        assert_eq!(of("token").await.token.as_deref(), Some("T"));
        let given = [config, ("AWS_PROFILE", "token"), ("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S")];
        assert_eq!(credential(&given).await.key_id, "E");

        for (profile, expected) in [("role", "a role"), ("sso", "a login"), ("none", "is no profile of")] {
            let error = build(&[config, ("AWS_PROFILE", profile)]).unwrap_err();
            assert!(error.is_invalid_input() && error.to_string().contains(expected), "{error}");
        }
        let broken = build(&[config, ("AWS_PROFILE", "broken")]).unwrap();
        let error = Error::from(broken.credentials().get_credential().await.unwrap_err());
        assert!(error.is_invalid_input() && error.to_string().contains("no"), "{error}");
    }

    #[test]
    fn without_credentials_nobody_is_asked() {
        let none = [("AWS_EC2_METADATA_DISABLED", "true")];
        let error = build(&none).unwrap_err();
        assert!(error.is_invalid_input(), "{error}");
        for expected in ["no credentials for s3://bucket", "AWS_PROFILE", "AWS_SKIP_SIGNATURE=true"] {
            assert!(error.to_string().contains(expected), "{error}");
        }
        for given in [
            ("AWS_SKIP_SIGNATURE", "true"),
            ("AWS_NO_SIGN_REQUEST", "YES"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1"),
        ] {
            assert!(build(&[given]).is_ok(), "{given:?}");
        }
    }
}
