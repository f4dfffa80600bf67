# What Terraform's AWS provider has of Amazon ECS and coracle has too. In step 2 everything that can be changed is.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" {
  type = string
}

variable "step" {
  type = number
}

locals {
  region = "eu-central-1"
  group  = "arn:aws:autoscaling:${local.region}:123456789012:autoScalingGroup:4c1f3c0e-3f7c-4bb5-8c57-3c1b2f4f5a11:autoScalingGroupName"
}

provider "aws" {
  region                      = local.region
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  endpoints {
    ecs = var.endpoint
  }
}

resource "aws_ecs_account_setting_default" "insights" {
  name  = "containerInsights"
  value = var.step == 1 ? "enabled" : "disabled"
}

resource "aws_ecs_cluster" "cluster" {
  name = "terraform"
  setting {
    name  = "containerInsights"
    value = var.step == 1 ? "enabled" : "disabled"
  }
  configuration {
    execute_command_configuration {
      logging = "DEFAULT"
    }
  }
  tags = var.step == 1 ? { team = "one" } : { team = "two", stage = "test" }
}

resource "aws_ecs_capacity_provider" "scaled" {
  name = "scaled"
  auto_scaling_group_provider {
    auto_scaling_group_arn = "${local.group}/scaled"
    managed_scaling {
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = 10
      status                    = "ENABLED"
      target_capacity           = var.step == 1 ? 90 : 80
    }
  }
  tags = { team = "one" }
}

resource "aws_ecs_capacity_provider" "tagged_elsewhere" {
  name = "tagged-elsewhere"
  auto_scaling_group_provider {
    auto_scaling_group_arn = "${local.group}/tagged-elsewhere"
  }
  lifecycle {
    ignore_changes = [tags]
  }
}

resource "aws_ecs_tag" "tag" {
  resource_arn = aws_ecs_capacity_provider.tagged_elsewhere.arn
  key          = "Name"
  value        = var.step == 1 ? "one" : "two"
}

resource "aws_ecs_cluster_capacity_providers" "of_cluster" {
  cluster_name       = aws_ecs_cluster.cluster.name
  capacity_providers = ["FARGATE", aws_ecs_capacity_provider.scaled.name]
  default_capacity_provider_strategy {
    base              = 1
    weight            = var.step == 1 ? 100 : 70
    capacity_provider = "FARGATE"
  }
}

resource "aws_ecs_task_definition" "fargate" {
  family                   = "fargate"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  execution_role_arn       = "arn:aws:iam::123456789012:role/execution"
  cpu                      = 256
  memory                   = var.step == 1 ? 512 : 1024
  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
  ephemeral_storage {
    size_in_gib = 21
  }
  volume {
    name = "data"
  }
  container_definitions = jsonencode([
    {
      name         = "web"
      image        = "nginx"
      cpu          = 10
      memory       = 256
      essential    = true
      environment  = [{ name = "B", value = "2" }, { name = "A", value = "1" }]
      portMappings = [{ containerPort = 80, hostPort = 80 }]
      healthCheck  = { command = ["CMD-SHELL", "true"] }
      mountPoints  = [{ sourceVolume = "data", containerPath = "/data" }]
      logConfiguration = {
        logDriver = "awslogs"
        options   = { awslogs-group = "web", awslogs-region = local.region, awslogs-stream-prefix = "web" }
      }
    },
    { name = "sidecar", image = "busybox", memory = 64, dependsOn = [{ containerName = "web", condition = "START" }] },
  ])
  tags = { team = "one" }
}

resource "aws_ecs_task_definition" "bridge" {
  family = "bridge"
  container_definitions = jsonencode([{
    name         = "web"
    image        = "coracle/hello:latest"
    memory       = var.step == 1 ? 64 : 65
    essential    = true
    portMappings = [{ containerPort = 8080 }]
    mountPoints  = [{ sourceVolume = "host", containerPath = "/host", readOnly = true }]
  }])
  volume {
    name      = "host"
    host_path = "/tmp"
  }
  volume {
    name = "kept"
    docker_volume_configuration {
      scope         = "shared"
      autoprovision = true
      driver        = "local"
    }
  }
  placement_constraints {
    type       = "memberOf"
    expression = "attribute:ecs.os-type == linux"
  }
}

data "aws_ecs_cluster" "cluster" {
  cluster_name = aws_ecs_cluster.cluster.name
}

data "aws_ecs_clusters" "all" {
  depends_on = [aws_ecs_cluster.cluster]
}

data "aws_ecs_task_definition" "bridge" {
  task_definition = aws_ecs_task_definition.bridge.family
}

output "told" {
  value = {
    status   = data.aws_ecs_cluster.cluster.status
    clusters = sort([for arn in data.aws_ecs_clusters.all.cluster_arns : element(split("/", arn), 1)])
    revision = data.aws_ecs_task_definition.bridge.revision
  }
}
