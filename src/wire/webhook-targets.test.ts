// Which addresses webhooks may be sent to.
import { describe, expect, test } from "vitest";
import { isPublicAddress, targetFault } from "./webhook-targets.ts";

describe("isPublicAddress", () => {
  test.each(["8.8.8.8", "172.15.255.255", "172.32.0.0", "192.169.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])(
    "%s is",
    (address) => expect(isPublicAddress(address)).toBe(true),
  );

  test.each([
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:a00:1",
    "::7f00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "ff02::1",
    "not an address",
  ])("%s is not", (address) => expect(isPublicAddress(address)).toBe(false));
});

describe("targetFault", () => {
  test.each(["https://example.com/hook", "https://8.8.8.8:8443/x?y=1", "https://[2606:4700::1111]/"])(
    "%s may be sent to",
    (url) => expect(targetFault(url, [])).toBeNull(),
  );

  test.each([
    ["nonsense", "expected an https address"],
    ["ftp://example.com", "expected an https address; http is for hosts named"],
    ["http://example.com", "expected an https address; http is for hosts named"],
    ["https://user:pw@example.com", "it holds a user name or password"],
    ["https://127.0.0.1/", "127.0.0.1 is no public address"],
    // Written as a browser reads them, too.
    ["https://2130706433/", "127.0.0.1 is no public address"],
    ["https://0x7f.1/", "127.0.0.1 is no public address"],
    ["https://[::1]/", "::1 is no public address"],
    ["https://[::ffff:10.0.0.1]/", "::ffff:a00:1 is no public address"],
  ])("%s may not: %s", (url, fault) => expect(targetFault(url, [])).toContain(fault));

  test("a host that the operator named may, by http too", () => {
    expect(targetFault("http://localhost:3000/hook", ["localhost"])).toBeNull();
    expect(targetFault("https://[::1]:3000/", ["::1"])).toBeNull();
    expect(targetFault("ftp://localhost/", ["localhost"])).toBe("expected an http or https address");
    expect(targetFault("http://localhost.example.com/", ["localhost"])).not.toBeNull();
  });
});
