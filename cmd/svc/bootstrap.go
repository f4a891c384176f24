package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/configsrc/file"
	"github.com/hotsvc/svc/reload"
)

// bootstrap is what the program must know before it has a config: flags first,
// then SVC_* of the environment.
type bootstrap struct {
	*env
	source       string
	file         string
	set          []string
	strict       bool
	stateDir     string
	admin        string
	adminNamed   bool // by the user
	client       *admin.Client
	startTimeout time.Duration
}

const (
	defaultFile     = "./config.yaml"
	defaultStateDir = "./.svc"
	// fileQuiet is how long a file must stay as it is before it is taken:
	// editors write in several steps.
	fileQuiet = 300 * time.Millisecond
)

func (b *bootstrap) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&b.source, "source", "", "where settings come from: file (SVC_SOURCE)")
	flags.StringVar(&b.file, "file", "", "the config file (SVC_FILE, default "+defaultFile+")")
	flags.StringArrayVar(&b.set, "set", nil, "key=value above all sources; repeatable (SVC_SET, one a line)")
	flags.BoolVar(&b.strict, "strict", false, "refuse keys that are no settings (SVC_STRICT)")
	flags.StringVar(&b.stateDir, "state-dir", "", "folder for last good, history and sockets (SVC_STATE_DIR, default "+defaultStateDir+")")
	flags.StringVar(&b.admin, "admin", "", "admin address of the running service: unix:PATH, HOST:PORT or https://HOST:PORT (SVC_ADMIN, default the state folder's socket); over TCP its token is in SVC_ADMIN_TOKEN or the file SVC_ADMIN_TOKEN_FILE, its CA in the file SVC_ADMIN_CA, and a client certificate in the files SVC_ADMIN_CERT and SVC_ADMIN_KEY")
	flags.DurationVar(&b.startTimeout, "start-timeout", 0, "how long the first read of the source may take (SVC_START_TIMEOUT, default 10s)")
}

// resolve fills in what no flag has set.
func (b *bootstrap) resolve() error {
	if b.startTimeout < 0 {
		return &exitError{2, errors.New("--start-timeout: want a duration such as 10s")}
	}
	b.source = cmp.Or(b.source, b.getenv("SVC_SOURCE"), "file")
	if b.source != "file" {
		return &exitError{2, fmt.Errorf("SVC_SOURCE=%s: this build follows a file only: set SVC_SOURCE=file, or leave it out", b.source)}
	}
	b.stateDir = cmp.Or(b.stateDir, b.getenv("SVC_STATE_DIR"), defaultStateDir)
	b.admin = cmp.Or(b.admin, b.getenv("SVC_ADMIN"))
	b.adminNamed = b.admin != ""
	b.admin = cmp.Or(b.admin, "unix:"+filepath.Join(b.stateDir, adminSocket))
	var err error
	if b.client, err = b.newClient(); err != nil {
		return &exitError{2, err}
	}
	b.file = cmp.Or(b.file, b.getenv("SVC_FILE"))
	if text := b.getenv("SVC_STRICT"); text != "" && !b.strict {
		strict, err := strconv.ParseBool(text)
		if err != nil {
			return &exitError{2, errors.New("SVC_STRICT: want true or false")}
		}
		b.strict = strict
	}
	if text := b.getenv("SVC_START_TIMEOUT"); text != "" && b.startTimeout == 0 {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return &exitError{2, errors.New("SVC_START_TIMEOUT: want a duration such as 10s")}
		}
		b.startTimeout = d
	}
	return nil
}

// newClient makes the client of the running service. What its credentials are
// is looked at only for an address on TCP, since the socket needs none.
func (b *bootstrap) newClient() (*admin.Client, error) {
	token, tokenFile := b.getenv("SVC_ADMIN_TOKEN"), b.getenv("SVC_ADMIN_TOKEN_FILE")
	if token != "" && tokenFile != "" {
		return nil, errors.New("SVC_ADMIN_TOKEN and SVC_ADMIN_TOKEN_FILE are both set: want one of them")
	}
	if strings.HasPrefix(b.admin, "unix:") {
		return admin.NewClient(b.admin, admin.ClientOptions{})
	}
	if tokenFile != "" {
		data, err := readCredential("SVC_ADMIN_TOKEN_FILE", tokenFile)
		if err != nil {
			return nil, err
		}
		if token = strings.TrimSpace(string(data)); token == "" {
			return nil, fmt.Errorf("SVC_ADMIN_TOKEN_FILE: %s is empty", tokenFile)
		}
	}
	config, err := b.clientTLS()
	if err != nil {
		return nil, err
	}
	return admin.NewClient(b.admin, admin.ClientOptions{Token: configsrc.Secret(token), TLS: config})
}

// clientTLS is nil where nothing of it is set.
func (b *bootstrap) clientTLS() (*tls.Config, error) {
	ca, cert, key := b.getenv("SVC_ADMIN_CA"), b.getenv("SVC_ADMIN_CERT"), b.getenv("SVC_ADMIN_KEY")
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := readCredential("SVC_ADMIN_CA", ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("SVC_ADMIN_CA: %s holds no certificate in PEM", ca)
		}
	}
	if cert == "" && key == "" {
		return config, nil
	}
	if cert == "" || key == "" {
		return nil, errors.New("SVC_ADMIN_CERT and SVC_ADMIN_KEY go together: set both or none")
	}
	certPEM, err := readCredential("SVC_ADMIN_CERT", cert)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readCredential("SVC_ADMIN_KEY", key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("SVC_ADMIN_CERT %s and SVC_ADMIN_KEY %s: %w", cert, key, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// maxCredential bounds a credential's file, in bytes.
const maxCredential = 1 << 20

// readCredential reads the file that a variable names.
func readCredential(variable, path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if len(data) > maxCredential {
		return nil, fmt.Errorf("%s: %s is larger than 1 MiB", variable, path)
	}
	return data, nil
}

// layers are the places that settings come from, lowest priority first.
func (b *bootstrap) layers() ([]reload.Layer, error) {
	path := cmp.Or(b.file, defaultFile)
	source, err := file.New(path, file.Options{})
	if err != nil {
		return nil, &exitError{2, err}
	}
	// By its whole path: stored content must not change hands with the
	// working directory, or for another spelling.
	address, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find config file: %w", err)
	}
	environment, err := parseSet("environment", strings.Split(b.getenv("SVC_SET"), "\n"))
	if err != nil {
		return nil, err
	}
	set, err := parseSet("set", b.set)
	if err != nil {
		return nil, err
	}
	return []reload.Layer{
		{Name: "file", Address: address, Source: source, Quiet: fileQuiet},
		{Name: "environment", Values: environment},
		{Name: "set", Values: set},
	}, nil
}

// parseSet reads "key=value" lines. A later line of the same key wins.
func parseSet(layer string, lines []string) (configsrc.Values, error) {
	name := map[string]string{"environment": "SVC_SET", "set": "--set"}[layer]
	values := configsrc.Values{}
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok {
			return nil, &exitError{2, fmt.Errorf("%s: want key=value, found no \"=\"", name)}
		}
		values[key] = configsrc.Value{
			Raw: strings.TrimSpace(value), Origin: configsrc.Origin{Source: layer, Name: name + " " + key},
		}
	}
	if err := values.Check(configsrc.Limits{}); err != nil {
		return nil, &exitError{2, fmt.Errorf("%s: %w", name, err)}
	}
	return values, nil
}

// newChecker makes a manager for a single question, which leaves nothing on
// disk. A content is checked with its certificates.
func (b *bootstrap) newChecker() (*reload.Manager[Config], error) {
	m, err := b.newManager(reload.Options[Config]{})
	if err == nil {
		registerCertificates(m, nil, func() bool { return false })
	}
	return m, err
}

// newManager wires a manager over the configured sources.
func (b *bootstrap) newManager(o reload.Options[Config]) (*reload.Manager[Config], error) {
	layers, err := b.layers()
	if err != nil {
		return nil, err
	}
	o.Default = defaultConfig
	o.Layers = layers
	o.Strict = b.strict
	o.StartTimeout = b.startTimeout
	return reload.New(o)
}
