ORIGIN = "kiss-icp"


def is_estimated(folder):
    return False
