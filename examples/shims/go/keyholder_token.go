// Tokens from a local keyholder broker, over loopback or its unix socket. Standard library only.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Token is a token and where it is good for.
type Token struct {
	AccessToken string `json:"access_token"`
	APIBase     string `json:"api_base"`
	ExpiresIn   int    `json:"expires_in"`
}

func ask(method, path string, body []byte, into any) error {
	base := os.Getenv("KEYHOLDER_URL")
	transport := &http.Transport{DisableKeepAlives: true}
	if strings.HasPrefix(base, "unix:") {
		socket := strings.TrimPrefix(base, "unix:")
		base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	request, err := http.NewRequest(method, base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if name := os.Getenv("KEYHOLDER_TOKEN_FILE"); name != "" {
		guard, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		request.Header.Set("X-Keyholder-Token", strings.TrimSpace(string(guard)))
	}
	answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		told, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("keyholder: %s", told)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// Get asks for a token with at least minTTL left.
func Get(profile string, minTTL time.Duration) (token Token, err error) {
	path := fmt.Sprintf("/v1/token/%s?min_ttl=%d", url.PathEscape(profile), int(minTTL.Seconds()))
	return token, ask("GET", path, nil, &token)
}

// Report tells that the platform refused this token. Harmless when it is an old one.
func Report(profile, token string) error {
	body := fmt.Sprintf(`{"sha256":"%x"}`, sha256.Sum256([]byte(token)))
	return ask("POST", "/v1/token/"+url.PathEscape(profile)+"/invalidate", []byte(body), nil)
}

// Call fetches a path of the platform's API; a refused token is reported once.
func Call(profile, path string) (status int, content []byte, err error) {
	for attempt := 1; ; attempt++ {
		token, err := Get(profile, time.Minute)
		if err != nil {
			return 0, nil, err
		}
		request, err := http.NewRequest("GET", token.APIBase+path, nil)
		if err != nil {
			return 0, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token.AccessToken)
		answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
		if err != nil {
			return 0, nil, err
		}
		content, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		final := answer.StatusCode != 401 || attempt == 2 || bytes.Contains(content, []byte("ip.not.authorized"))
		if err != nil || final {
			return answer.StatusCode, content, err
		}
		if err := Report(profile, token.AccessToken); err != nil {
			return 0, nil, err
		}
	}
}

// Calls the path of the first argument, and again for each line of standard input.
func main() {
	lines := bufio.NewScanner(os.Stdin)
	for again := true; again; again = lines.Scan() {
		status, _, err := Call(os.Getenv("KEYHOLDER_PROFILE"), os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(status)
	}
}
