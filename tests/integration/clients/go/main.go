// SPDX-License-Identifier: Apache-2.0

// A VM's whole life through a client that a generator has made of the OpenAPI 3.0 document.
//
// "lifecycle SOCKET CONFIG" creates the VM of a JSON file and prints a line for each step that
// went as it should.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"velum.invalid/client/api"
)

const (
	attempts        = 600
	betweenAttempts = 50 * time.Millisecond
)

type lifecycle struct {
	api *velum.DefaultAPIService
	ctx context.Context
}

func main() {
	if len(os.Args) != 3 {
		fail("lifecycle SOCKET CONFIG")
	}
	text, err := os.ReadFile(os.Args[2])
	check(err)
	var config velum.VmConfig
	check(json.Unmarshal(text, &config))
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", os.Args[1])
	}
	settings := velum.NewConfiguration()
	settings.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: dial}}
	client := &lifecycle{velum.NewAPIClient(settings).DefaultAPI, context.Background()}
	client.create(config)
	client.run()
	client.end()
}

func (c *lifecycle) create(config velum.VmConfig) {
	ping, _, err := c.api.VmmPingGet(c.ctx).Execute()
	check(err)
	done("ping %s", ping.Version)
	_, response, err := c.api.VmInfoGet(c.ctx).Execute()
	refused("info before create", 404, response, err)
	_, response, err = c.api.BootVM(c.ctx).Execute()
	refused("boot before create", 404, response, err)

	_, _, err = c.api.CreateVM(c.ctx).VmConfig(config).Execute()
	check(err)
	done("create")
	_, response, err = c.api.CreateVM(c.ctx).VmConfig(config).Execute()
	refused("create twice", 409, response, err)
	c.waitFor(velum.VMSTATE_CREATED)

	nobody := velum.VmRemoveDevice{Id: "nobody"}
	_, response, err = c.api.VmRemoveDevicePut(c.ctx).VmRemoveDevice(nobody).Execute()
	refused("removal of an unknown device", 404, response, err)
	resize := velum.NewVmResize()
	resize.SetDesiredRam(2 * config.Memory.Size)
	_, _, err = c.api.VmResizePut(c.ctx).VmResize(*resize).Execute()
	check(err)
	if size := c.info().Config.Memory.Size; size != 2*config.Memory.Size {
		fail("after vm.resize the memory is %d", size)
	}
	done("resize")
}

func (c *lifecycle) run() {
	_, _, err := c.api.BootVM(c.ctx).Execute()
	check(err)
	done("boot")
	c.waitFor(velum.VMSTATE_RUNNING)
	_, response, err := c.api.BootVM(c.ctx).Execute()
	refused("boot twice", 409, response, err)
	counters, _, err := c.api.VmCountersGet(c.ctx).Execute()
	check(err)
	done("counters of %d devices", len(*counters))

	_, _, err = c.api.PauseVM(c.ctx).Execute()
	check(err)
	c.waitFor(velum.VMSTATE_PAUSED)
	_, response, err = c.api.PauseVM(c.ctx).Execute()
	refused("pause twice", 409, response, err)
	_, _, err = c.api.ResumeVM(c.ctx).Execute()
	check(err)
	c.waitFor(velum.VMSTATE_RUNNING)
	done("pause and resume")

	_, _, err = c.api.PowerButtonVM(c.ctx).Execute()
	check(err)
	_, _, err = c.api.VmNmiPut(c.ctx).Execute()
	check(err)
	_, _, err = c.api.RebootVM(c.ctx).Execute()
	check(err)
	c.waitFor(velum.VMSTATE_RUNNING)
	done("reboot")
}

func (c *lifecycle) end() {
	_, _, err := c.api.ShutdownVM(c.ctx).Execute()
	check(err)
	_, response, err := c.api.ShutdownVM(c.ctx).Execute()
	refused("shutdown twice", 409, response, err)
	job, response, err := c.api.BootVM(c.ctx).Prefer("respond-async").Execute()
	check(err)
	if response.StatusCode != http.StatusAccepted || job.Operation != "vm.boot" {
		fail("an asynchronous boot was answered %d", response.StatusCode)
	}
	c.waitFor(velum.VMSTATE_RUNNING)
	done("shutdown and boot")

	_, _, err = c.api.DeleteVM(c.ctx).Execute()
	check(err)
	_, response, err = c.api.VmInfoGet(c.ctx).Execute()
	refused("info after delete", 404, response, err)
	_, _, err = c.api.ShutdownVMM(c.ctx).Execute()
	check(err)
	done("shutdown of the VMM")
}

func (c *lifecycle) info() *velum.VmInfo {
	info, _, err := c.api.VmInfoGet(c.ctx).Execute()
	check(err)
	return info
}

// waitFor waits until the VM is in a state; the whole of vm.info has to have its types.
func (c *lifecycle) waitFor(state velum.VmState) {
	for range attempts {
		if c.info().State == state {
			return
		}
		time.Sleep(betweenAttempts)
	}
	fail("the VM did not become %s", state)
}

// refused checks that a call failed with a status, and that its body says why.
func refused(what string, status int, response *http.Response, err error) {
	var body []byte
	if failure, ok := err.(*velum.GenericOpenAPIError); ok {
		body = failure.Body()
	}
	if response == nil || response.StatusCode != status || !bytes.Contains(body, []byte(`"code"`)) {
		fail("%s: %v, %s", what, err, body)
	}
	done("%s: %d", what, status)
}

func check(err error) {
	if failure, ok := err.(*velum.GenericOpenAPIError); ok {
		fail("%v: %s", err, failure.Body())
	}
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func done(format string, values ...any) {
	fmt.Printf(format+"\n", values...)
}
