// Tokens from a local keyholder broker, over loopback or its unix socket. .NET 8 or newer, no package.
// Written from the documentation of .NET; the tests do not run it.

using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

public sealed record Token(string AccessToken, string ApiBase);

public static class KeyholderToken
{
    private static readonly string Url = Environment.GetEnvironmentVariable("KEYHOLDER_URL")!;
    private static readonly HttpClient Broker = new(Handler()) { BaseAddress = new Uri(IsSocket ? "http://localhost" : Url) };
    private static readonly HttpClient Platform = new();

    private static bool IsSocket => Url.StartsWith("unix:");

    private static SocketsHttpHandler Handler() => !IsSocket ? new() { UseProxy = false } : new()
    {
        UseProxy = false,
        ConnectCallback = async (_, cancel) =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(Url["unix:".Length..]), cancel);
            return new NetworkStream(socket, ownsSocket: true);
        },
    };

    private static async Task<string> Ask(HttpMethod method, string path, string? body)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body != null) request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        if (Environment.GetEnvironmentVariable("KEYHOLDER_TOKEN_FILE") is { Length: > 0 } file)
            request.Headers.Add("X-Keyholder-Token", (await File.ReadAllTextAsync(file)).Trim());
        using var answer = await Broker.SendAsync(request);
        var content = await answer.Content.ReadAsStringAsync();
        return answer.IsSuccessStatusCode ? content : throw new HttpRequestException($"keyholder: {content}");
    }

    /// <summary>A token with at least so many seconds left.</summary>
    public static async Task<Token> Get(string profile, int minTtl = 60)
    {
        var json = await Ask(HttpMethod.Get, $"/v1/token/{Uri.EscapeDataString(profile)}?min_ttl={minTtl}", null);
        var root = JsonDocument.Parse(json).RootElement;
        return new(root.GetProperty("access_token").GetString()!, root.GetProperty("api_base").GetString()!);
    }

    /// <summary>The platform refused this token. Harmless when it is an old one.</summary>
    public static Task Report(string profile, string token)
    {
        var digest = Convert.ToHexString(SHA256.HashData(Encoding.ASCII.GetBytes(token))).ToLowerInvariant();
        return Ask(HttpMethod.Post, $"/v1/token/{Uri.EscapeDataString(profile)}/invalidate", $"{{\"sha256\":\"{digest}\"}}");
    }

    /// <summary>Fetches a path of the platform's API; a refused token is reported once.</summary>
    public static async Task<HttpResponseMessage> Call(string profile, string path)
    {
        for (var attempt = 1; ; attempt++)
        {
            var token = await Get(profile);
            using var request = new HttpRequestMessage(HttpMethod.Get, token.ApiBase + path);
            request.Headers.Authorization = new("Bearer", token.AccessToken);
            var answer = await Platform.SendAsync(request);
            if ((int)answer.StatusCode != 401 || attempt == 2) return answer;
            if ((await answer.Content.ReadAsStringAsync()).Contains("ip.not.authorized")) return answer;
            await Report(profile, token.AccessToken);
        }
    }
}
