//! The closing words: how to point an SDK at the demo, with lines to copy.

use super::{narrator::Narrator, world::World};

/// Prints addresses and one snippet per official SDK.
pub(super) fn print(world: &World, narrator: &Narrator) {
    let gateway = world.gateway();
    let (host, port) = gateway.trim_start_matches("http://").rsplit_once(':').unwrap_or(("127.0.0.1", "80"));
    let (id, secret) = (world.client_id(), world.main.secret.expose());
    narrator.heading("It stays up: point your own SDK at it. The application's settings are all that changes.");
    narrator.heading("shell");
    narrator.code(&format!(
        "TOKEN=$(curl -s {gateway}/oauth/token -u '{id}:{secret}' -d grant_type=client_credentials | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -H \"Authorization: Bearer $TOKEN\" '{gateway}/api/v2/users?pageSize=3'"
    ));
    narrator.heading("Python (PureCloudPlatformClientV2)");
    narrator.code(&format!(
        "import PureCloudPlatformClientV2 as pc\n\
         pc.configuration.host = '{gateway}'\n\
         client = pc.api_client.ApiClient().get_client_credentials_token('{id}', '{secret}')\n\
         print(pc.UsersApi(client).get_users(page_size=3))"
    ));
    narrator.heading("JavaScript (purecloud-platform-client-v2)");
    narrator.code(&format!(
        "const pc = require('purecloud-platform-client-v2'), client = pc.ApiClient.instance;\n\
         client.setGateway({{ host: '{host}', protocol: 'http', port: {port} }});\n\
         client.loginClientCredentialsGrant('{id}', '{secret}')\n  \
           .then(() => new pc.UsersApi().getUsers({{ pageSize: 3 }})).then(console.log);"
    ));
    narrator.heading("Go (platform-client-sdk-go)");
    narrator.code(&format!(
        "config := platformclientv2.GetDefaultConfiguration()\n\
         config.SetGateway(&platformclientv2.GateWayConfiguration{{Protocol: \"http\", Host: \"{host}\", Port: \"{port}\", Auth: &platformclientv2.Auth{{}}}})\n\
         err := config.AuthorizeClientCredentials(\"{id}\", \"{secret}\")"
    ));
    narrator.heading(".NET (PureCloudPlatform.Client.V2)");
    narrator.code(&format!(
        "Configuration.Default.ApiClient.SetGateway(\"{host}\", \"http\", {port}, \"\", \"\");\n\
         Configuration.Default.ApiClient.PostToken(\"{id}\", \"{secret}\");"
    ));
    narrator.heading("Look around");
    let addresses = world.addresses();
    narrator.code(&format!(
        "curl {}/_sandbox/requests                      what the platform saw\n\
         curl {}/metrics                                what keyholder counted\n\
         keyholder --config {} client list\n\
         export KEYHOLDER_URL={} KEYHOLDER_TOKEN_FILE={}\n\
         keyholder token get genesys                    the platform's token, for an operator",
        world.sandbox().control_url,
        addresses.admin_url.clone().unwrap_or_default(),
        world.config().display(),
        addresses.broker_url.clone().unwrap_or_default(),
        addresses.broker_token_file.display(),
    ));
    narrator.line("\nCtrl-C ends it and removes everything.");
}
