package main

import (
	"github.com/hotsvc/svc/server"
)

// Config is every setting of the service.
type Config struct {
	Server server.Config `config:"server"`
	Log    Log           `config:"log"`
	// Public is handed out to anybody, by /v1/config.
	Public map[string]any `config:"public" reload:"live"`
}

// Log says what is logged.
type Log struct {
	Level string `config:"level" reload:"live" validate:"oneof=debug info warn error"`
}

func defaultConfig() Config {
	return Config{
		Server: server.Default(),
		Log:    Log{Level: "info"},
		Public: map[string]any{},
	}
}
