"""Each definition with one small thing changed: something must refuse it, or it is listed as harmless."""
