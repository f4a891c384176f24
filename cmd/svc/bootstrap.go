package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

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
	flags.StringVar(&b.admin, "admin", "", "admin address of the running service: unix:PATH or HOST:PORT (SVC_ADMIN, default the state folder's socket)")
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

// newManager wires a manager over the configured sources. A stateDir of ""
// makes one for a single question, which leaves nothing on disk.
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

// newLogger logs for people on a terminal, and for machines elsewhere.
func newLogger(b *bootstrap, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if f, ok := b.stderr.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.New(slog.NewTextHandler(b.stderr, options))
		}
	}
	return slog.New(slog.NewJSONHandler(b.stderr, options))
}
