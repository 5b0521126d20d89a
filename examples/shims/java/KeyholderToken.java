// Tokens from a local keyholder broker over loopback. Java 17, no library. Java's HTTP client cannot use unix sockets, so
// on a unix: address the request is written to a SocketChannel.

import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.regex.*;

public final class KeyholderToken {
    public record Token(String accessToken, String apiBase) {}

    private static final HttpClient HTTP = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();

    private static String ask(String method, String path, String body) throws Exception {
        String url = System.getenv("KEYHOLDER_URL"), file = System.getenv("KEYHOLDER_TOKEN_FILE");
        String guard = file == null ? null : Files.readString(Path.of(file)).strip();
        if (url.startsWith("unix:")) return overSocket(Path.of(url.substring(5)), method, path, body, guard);
        var request = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofMinutes(1))
            .method(method, HttpRequest.BodyPublishers.ofString(body));
        if (guard != null) request.header("X-Keyholder-Token", guard);
        var answer = HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 300) throw new IOException("keyholder: " + answer.body());
        return answer.body();
    }

    private static String overSocket(Path socket, String method, String path, String body, String guard) throws Exception {
        try (var channel = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
            String head = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
                + body.length() + (guard == null ? "" : "\r\nX-Keyholder-Token: " + guard) + "\r\n\r\n";
            Channels.newOutputStream(channel).write((head + body).getBytes(StandardCharsets.US_ASCII));
            String answer = new String(Channels.newInputStream(channel).readAllBytes(), StandardCharsets.UTF_8);
            String[] parts = answer.split("\r\n\r\n", 2);
            if (!parts[0].startsWith("HTTP/1.1 2")) throw new IOException("keyholder: " + parts[parts.length - 1]);
            return parts[1];
        }
    }

    /** A token with at least so many seconds left. */
    public static Token get(String profile, int minTtl) throws Exception {
        String json = ask("GET", "/v1/token/" + encoded(profile) + "?min_ttl=" + minTtl, "");
        return new Token(member(json, "access_token"), member(json, "api_base"));
    }

    /** The platform refused this token. Harmless when it is an old one. */
    public static void report(String profile, String token) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(token.getBytes(StandardCharsets.US_ASCII));
        ask("POST", "/v1/token/" + encoded(profile) + "/invalidate", "{\"sha256\":\"" + HexFormat.of().formatHex(digest) + "\"}");
    }

    /** Fetches a path of the platform's API; a refused token is reported once. */
    public static HttpResponse<String> call(String profile, String path) throws Exception {
        for (int attempt = 1; ; attempt++) {
            Token token = get(profile, 60);
            var request = HttpRequest.newBuilder(URI.create(token.apiBase() + path)).timeout(Duration.ofMinutes(1))
                .header("Authorization", "Bearer " + token.accessToken()).build();
            var answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 401 || attempt == 2 || answer.body().contains("ip.not.authorized")) return answer;
            report(profile, token.accessToken());
        }
    }

    private static String encoded(String profile) {
        return URLEncoder.encode(profile, StandardCharsets.UTF_8);
    }

    /** A text member of the broker's flat object; tokens and URLs need no unescaping. Use your JSON library if you have one. */
    private static String member(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"\\\\]*)\"").matcher(json);
        if (!found.find()) throw new IllegalStateException("keyholder: no " + name);
        return found.group(1);
    }

    /** Calls the path of the first argument, and again for each line of standard input. */
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        do {
            System.out.println(call(System.getenv("KEYHOLDER_PROFILE"), arguments[0]).statusCode());
        } while (lines.readLine() != null);
    }
}
